"""What tells the runs of a sweep apart: the values that their commands set differently.

>>> shortened(["seed", "schedule.phases.head.learning_rate"])
{'seed': 'seed', 'schedule.phases.head.learning_rate': 'lr'}
>>> shortened(["schedule.phases.head.learning_rate", "schedule.phases.top.learning_rate"])
{'schedule.phases.head.learning_rate': 'head.lr', 'schedule.phases.top.learning_rate': 'top.lr'}
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from finetune.printable import printable
from finetune.record.schema import RunRecord
from finetune.reporting.comparison.columns import Column, Value

ABBREVIATED: dict[str, str] = {"learning_rate": "lr"}
# Columns beside the swept values, and words that say nothing by themselves.
RESERVED = (["run"], ["status"], ["epochs"], ["trainable"], ["name"], ["path"])
WITHOUT_EFFECT = "trackers."  # on what a run learns
LONGEST = 24  # characters of a value in a label
MOST = 4  # columns of the config that stand for values that no command has set


def swept_columns(
    records: Sequence[RunRecord], config: Sequence[Column], known: Sequence[Mapping[str, Value]]
) -> tuple[Column, ...]:
    """Returns a column for each key that the commands of the runs set to different values.

    Where no command did, the first keys of the config that differ stand for them.

    Args:
        records: of the runs.
        config: keys of the config that differ.
        known: all keys of the config of each run.
    """
    typed = [dict(_overrides(each)) for each in records]
    differing = {each.key: each for each in config}
    keys = {key for each in known for key in each}
    found: dict[str, Column] = {}
    for key in dict.fromkeys(key for each in typed for key in each):
        whole = next((k for k in differing if key == k or key.startswith(f"{k}.")), None)
        if whole is not None:
            found[whole] = differing[whole]
        elif key not in keys:
            chosen = Column(key, tuple(each.get(key) for each in typed))  # an entry of a group
            if chosen.differs:
                found[key] = chosen
    telling = [each for key, each in found.items() if not key.startswith(WITHOUT_EFFECT)]
    return tuple(telling or found.values()) or tuple(config[:MOST])


def labels(columns: Sequence[Column], names: Sequence[str]) -> tuple[str, ...]:
    """Returns ``seed=1 lr=0.01`` for each run; its directory too where two would be alike.

    Args:
        columns: what `swept_columns` returned.
        names: of the runs' directories.
    """
    short = shortened([each.key for each in columns])
    made = [
        " ".join(
            f"{short[each.key]}={value_text(each.values[index])}"
            for each in columns
            if each.values[index] is not None
        )
        for index in range(len(names))
    ]
    return tuple(
        name if not text else text if made.count(text) == 1 else f"{text} ({name})"
        for text, name in zip(made, names, strict=True)
    )


def shortened(keys: Sequence[str]) -> dict[str, str]:
    """Returns for each dotted key as few of its last words as tell it from all other keys."""
    short = {}
    for key in keys:
        words = key.split(".")
        others = [each.split(".") for each in keys if each != key]
        number = next(
            (
                n
                for n in range(1, len(words))
                if words[-n:] not in RESERVED and all(o[-n:] != words[-n:] for o in others)
            ),
            len(words),
        )
        short[key] = ".".join(words[-number:])
    for key, name in short.items():
        *before, last = name.split(".")
        brief = ".".join([*before, ABBREVIATED[last]]) if last in ABBREVIATED else name
        if brief not in short.values():
            short[key] = brief
    return short


def value_text(value: Value) -> str:
    """Returns a value as a label shows it."""
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:g}" if isinstance(value, float) else printable(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def short_columns(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Returns the columns with their short names."""
    short = shortened([each.key for each in columns])
    return tuple(replace(each, key=short[each.key]) for each in columns)


def _overrides(record: RunRecord) -> Iterator[tuple[str, str | None]]:
    """Yields keys and values as they were typed; those of Hydra itself are left out."""
    for each in record.overrides:
        key, equals, value = each.lstrip("+~").partition("=")
        if not key.startswith(("hydra.", "hydra/")):
            yield key, value if equals and not each.startswith("~") else None
