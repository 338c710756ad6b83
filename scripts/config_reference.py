#!/usr/bin/env python3
"""Generates the pages of docs/ that follow from the code and the configs: config, recipes, command line.

    scripts/config_reference.py           writes the pages
    scripts/config_reference.py --check   exits with 1 if a page differs from what would be written

The description of a key is the comment beside it in configs/ or, for a key of a freeze policy, the
docstring of the policy. Its type and the names that it takes come from finetune/config/, and the result of
an experiment from the comment at the start of its file.
"""

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from finetune import cli  # noqa: E402
from finetune.commands import pages  # noqa: E402
from finetune.config import freeze, plugins  # noqa: E402
from finetune.config import schema as config  # noqa: E402
from finetune.config.schema import Config  # noqa: E402
from finetune.config.texts import keys_within, kind_within  # noqa: E402

CONFIGS, DOCS = ROOT / "configs", ROOT / "docs"
PHASE = "schedule.phases.NAME"
METRICS = tuple(name for name in plugins.names("metrics") if plugins.is_own("metrics", name))
# Keys whose value is one of a closed list; tests/docs/test_config_reference.py tries all of them.
CHOICES = {
    "head.pooling": config.POOLINGS,
    "dataset.resize": config.RESIZES,
    "head.standardise": config.STANDARDISE,
    "dataset.augment": config.AUGMENTATIONS,
    "dataset.mix": config.MIXES,
    "dataset.on_bad_sample": config.ON_BAD_SAMPLE,
    "dataset.class_weights": config.CLASS_WEIGHTS,
    "schedule.batch_norm": config.BATCH_NORM_MODES,
    "schedule.monitor": METRICS,
    f"{PHASE}.batch_norm": config.BATCH_NORM_MODES,
    f"{PHASE}.monitor": METRICS,
    f"{PHASE}.solver": config.SOLVERS,
    f"{PHASE}.freeze.policy": tuple(plugins.built_in(freeze.GROUP)),
    "optimizer.name": config.OPTIMIZERS,
    "features.cache": config.CACHE_MODES,
    "features.dtype": config.FEATURE_DTYPES,
    "runtime.device": config.DEVICES,
    "runtime.precision": config.PRECISIONS,
}
GENERATED = "<!-- Written by scripts/config_reference.py: change its source, then run that. -->\n"


@dataclasses.dataclass(frozen=True)
class Said:
    """Value and comment of a key in one config file."""

    value: str
    comment: str


def keys(schema: type = Config, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the path and the type of every key of the typed config, in its order."""
    for key in keys_within(schema):
        path, kind = f"{prefix}{key}", kind_within(schema, key)
        if path == "schedule.phases":
            yield path, "mapping"
            yield from keys(config.PhaseConfig, f"{PHASE}.")
        elif keys_within(kind):
            yield from keys(kind, f"{path}.")
        else:
            yield path, kind.__name__ if isinstance(kind, type) else str(kind)


def policy_keys() -> dict[str, str]:
    """Returns the description of each key of a freeze policy, from the ``Args`` of the policy's docstring."""
    found: dict[str, str] = {}
    for name in plugins.built_in(freeze.GROUP):
        text = inspect.getdoc(freeze.policy_class(name, "freeze")) or ""
        for key, what in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE):
            found.setdefault(f"{PHASE}.freeze.{key}", f"`{name}`: {' '.join(what.split())}")
    return found


def said(file: Path) -> dict[str, Said]:
    """Reads the keys of one config file with the comment beside each.

    A comment goes on in the lines below it that hold nothing else and are indented further. A key
    within ``{…}`` has the comment of its line.
    """
    text = file.read_text(encoding="utf-8")
    group = "" if file.parent == CONFIGS else f"{file.parent.name}."
    found: dict[str, Said] = {}

    def walk(node: yaml.MappingNode, prefix: str) -> None:
        for key, value in node.value:
            path = f"{prefix}{key.value}"
            path = re.sub(r"^(schedule\.phases)\.\w+", r"\1.NAME", path)
            shown = text[value.start_mark.index : value.end_mark.index].strip()
            found[path] = Said(shown, _comment(text.splitlines(), key, value))
            if isinstance(value, yaml.MappingNode):
                walk(value, f"{path}.")

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        walk(root, group)
    return found


def _comment(lines: list[str], key: yaml.Node, value: yaml.Node) -> str:
    first = key.start_mark.line
    words = [lines[first].partition(" #")[2]]
    for line in lines[first + 1 :] if words[0] else []:
        indent = len(line) - len(line.lstrip())
        if not line.lstrip().startswith("#") or indent <= key.start_mark.column:
            break
        words.append(line.lstrip()[1:])
    return " ".join(word.strip() for word in words if word.strip())


def config_page() -> str:
    """Returns the page that describes all keys.

    Raises:
        SystemExit: a key has no comment in any config.
    """
    files = {
        file: said(file)
        for file in sorted([CONFIGS / "config.yaml", *CONFIGS.glob("*/*.yaml")])
        if file.parent.name in (*config.GROUPS[:-1], "configs")
    }
    sections: dict[str, list[str]] = {}
    for path, kind in keys():
        section = "phase" if path.startswith(PHASE) else path.partition(".")[0]
        section = section if "." in path else "top" if path != "schedule.phases" else "schedule"
        sections.setdefault(section, []).append(_row(path, kind, files))
    parts = [GENERATED, (DOCS / "site" / "config_intro.md").read_text(encoding="utf-8")]
    for name, rows in sections.items():
        parts += [
            _heading(name),
            "| key | type | default | what it does |\n| --- | --- | --- | --- |",
        ]
        parts += ["\n".join(rows), ""]
        if name == "phase":
            parts += ["The policies:\n\n| policy | what it does |\n| --- | --- |"]
            named = [
                (policy, freeze.description(policy)) for policy in plugins.built_in(freeze.GROUP)
            ]
            parts += ["\n".join(f"| `{n}` | {_cell(text)} |" for n, text in named), ""]
        if name == "optimizer":
            parts += ["What each optimizer takes, beside `clipnorm`; the others stay null:\n"]
            taken = config.OPTIMIZER_KEYS.items()
            parts += [
                "\n".join(f"- `{n}`: {', '.join(f'`{k}`' for k in names)}" for n, names in taken),
                "",
            ]
    return "\n".join(parts)


def _heading(name: str) -> str:
    titles = {"top": "Of the whole run", "phase": f"A phase: `{PHASE}`"}
    names = sorted(file.stem for file in (CONFIGS / name).glob("*.yaml"))
    choose = f"\n\nBy name: {', '.join(f'`{name}={choice}`' for choice in names)}." if names else ""
    return f"## {titles.get(name, f'`{name}`')}{choose}\n"


def _row(path: str, kind: str, files: dict[Path, dict[str, Said]]) -> str:
    group = path.partition(".")[0] if "." in path else ""
    inside = {
        f.stem: keys_of_file
        for f, keys_of_file in files.items()
        if path in keys_of_file or _parent(path) in keys_of_file
    }
    # The file that lists most keys describes them; the others fill in.
    ranked = sorted(inside, key=lambda name: -len(inside[name]))
    told = [inside[name][path] for name in ranked if path in inside[name]]
    spoken = [policy_keys().get(path), *(line.comment for line in told)]
    spoken = [comment for comment in spoken if comment]
    if not spoken:
        up = (inside[name].get(_parent(path)) for name in ranked)
        spoken = [line.comment for line in up if line is not None and line.comment]
    if not spoken:
        raise SystemExit(f"error: {path} must have a comment in configs/{group}. Received: none.")
    values = {name: inside[name][path].value for name in ranked if path in inside[name]}
    valid = (
        f" One of {', '.join(f'`{choice}`' for choice in CHOICES[path])}."
        if path in CHOICES
        else ""
    )
    text = _cell(spoken[0]).rstrip(".") + "." + valid
    return f"| `{path}` | {_cell(kind)} | {_default(path, values)} | {text} |"


def _default(path: str, values: dict[str, str]) -> str:
    if path == "schedule.phases":
        return "by schedule"
    if not values:
        return "`null`"
    different = sorted(set(values.values()))
    if len(different) == 1:
        return "must be set" if different[0] == "???" else f"`{_cell(different[0])}`"
    return "by config" if len(different) > 2 else " or ".join(f"`{value}`" for value in different)


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def recipes_page() -> str:
    """Returns the page of the experiments, from the comments at the start of their files."""
    parts = [GENERATED, (DOCS / "site" / "recipes_intro.md").read_text(encoding="utf-8")]
    for file in sorted((CONFIGS / "experiment").glob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        head = [line[1:].strip() for line in _leading(text)]
        command = next(line for line in head if line.startswith("python -m finetune"))
        prose = " ".join(line for line in head if line != command and not line.startswith("@"))
        body = "\n".join(text.splitlines()[len(_leading(text)) :]).strip()
        parts += [f"## {file.stem}\n\n{prose}\n\n```sh\n{command}\n```\n\n```yaml\n{body}\n```\n"]
    return "\n".join(parts)


def _leading(text: str) -> list[str]:
    lines = text.splitlines()
    end = next(n for n, line in enumerate(lines) if not line.startswith("#"))
    return lines[:end]


def command_line_page() -> str:
    """Returns the page of the verbs, from the output of ``--help``."""
    intro = (DOCS / "site" / "command_line_intro.md").read_text(encoding="utf-8")
    parts = [f"{GENERATED}\n{intro}\n```text\n{pages.page(None)}```\n"]
    parts += [f"## {verb}\n\n```text\n{pages.page(verb)}```\n" for verb in cli.VERBS]
    return "\n".join(parts)


PAGES = {
    "config.md": config_page,
    "recipes.md": recipes_page,
    "command_line.md": command_line_page,
}


def main(arguments: list[str]) -> int:
    """Writes the pages, or names those that differ from what would be written."""
    stale = []
    for name, page in PAGES.items():
        made = page()
        if arguments == ["--check"]:
            if (DOCS / name).read_text(encoding="utf-8") != made:
                stale.append(name)
        else:
            (DOCS / name).write_text(made, encoding="utf-8")
    if stale:
        print(
            f"error: the pages must be those that scripts/config_reference.py writes. Received: {stale}."
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
