"""The values that distinguish the runs of a sweep: those that their commands set differently.

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
# Names of other columns, and words that are ambiguous alone.
RESERVED = (["run"], ["status"], ["epochs"], ["trainable"], ["name"], ["path"])
WITHOUT_EFFECT = "trackers."  # keys that do not affect the training
LONGEST = 24  # characters of a value in a label
MOST = 4  # config columns that describe runs whose commands are the same


def swept_columns(
    records: Sequence[RunRecord], config: Sequence[Column], known: Sequence[Mapping[str, Value]]
) -> tuple[Column, ...]:
    """Returns a column for each key that the commands of the runs set to different values.

    If there is none, it returns the first config keys that differ.

    Args:
        records: Records of the runs.
        config: Columns of the config keys that differ.
        known: Config of each run by dotted key.
    """
    typed = [dict(_overrides(record)) for record in records]
    differing = {column.key: column for column in config}
    keys = {key for values in known for key in values}
    found: dict[str, Column] = {}
    for key in dict.fromkeys(key for overrides in typed for key in overrides):
        whole = next((k for k in differing if key == k or key.startswith(f"{k}.")), None)
        if whole is not None:
            found[whole] = differing[whole]
        elif key not in keys:
            chosen = Column(key, tuple(overrides.get(key) for overrides in typed))  # a group's file
            if chosen.differs:
                found[key] = chosen
    relevant = [column for key, column in found.items() if not key.startswith(WITHOUT_EFFECT)]
    return tuple(relevant or found.values()) or tuple(config[:MOST])


def labels(columns: Sequence[Column], names: Sequence[str]) -> tuple[str, ...]:
    """Returns ``seed=1 lr=0.01`` for each run, with its directory if two runs have equal values.

    Args:
        columns: Columns that `swept_columns` returned.
        names: Directories of the runs.
    """
    short = shortened([column.key for column in columns])
    made = [
        " ".join(
            f"{short[column.key]}={value_text(column.values[index])}"
            for column in columns
            if column.values[index] is not None
        )
        for index in range(len(names))
    ]
    return tuple(
        name if not text else text if made.count(text) == 1 else f"{text} ({name})"
        for text, name in zip(made, names, strict=True)
    )


def shortened(keys: Sequence[str]) -> dict[str, str]:
    """Returns each dotted key with the fewest last words that distinguish it from the others."""
    short = {}
    for key in keys:
        words = key.split(".")
        others = [other.split(".") for other in keys if other != key]
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
    """Returns a value as text for a label."""
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:g}" if isinstance(value, float) else printable(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def short_columns(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Returns the columns with their short names."""
    short = shortened([column.key for column in columns])
    return tuple(replace(column, key=short[column.key]) for column in columns)


def _overrides(record: RunRecord) -> Iterator[tuple[str, str | None]]:
    """Yields the keys and values of a command as typed, without Hydra's own."""
    for override in record.overrides:
        key, equals, value = override.lstrip("+~").partition("=")
        if not key.startswith(("hydra.", "hydra/")):
            yield key, value if equals and not override.startswith("~") else None
