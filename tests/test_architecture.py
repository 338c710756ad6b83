"""Imports run one way, and what must answer fast imports no TensorFlow."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "finetune"
# A module may import those of its own entry and of the entries above it.
ORDER = [
    "printable", "launcher", "errors", "typed_json", "durable", "run_directory", "startup", "config", "texts",
    "strict_yaml", "checks", "reading", "record", "record_files", "datasets", "layer_kinds", "backbones", "freezing",
    "features", "training", "building", "feeds", "reporting", "overrides", "suggestions", "config_source",
    "composition", "saved_config", "own_datasets", "own_labels", "own_data", "own_model", "own_preprocessing",
    "inference", "rescue", "catalog", "resuming",
    "describing", "assessing", "runs", "trying", "finetuner", "commands", "cli", "__main__",
]  # fmt: skip
ONLY = {
    "reporting": {
        "printable",
        "launcher",
        "errors",
        "durable",
        "startup",
        "config",
        "record",
        "reporting",
    }
}
# Whole rooms, or single modules of a room.
TENSORFLOW_FREE = [
    "printable", "launcher", "errors", "typed_json", "durable", "run_directory", "startup", "config", "texts",
    "strict_yaml", "checks", "reading", "record", "record_files", "reporting", "overrides", "suggestions",
    "config_source", "composition", "saved_config", "catalog", "resuming", "commands", "cli", "training/__init__",
    "training/checkpoints", "datasets/__init__", "datasets/catalog", "backbones/__init__", "backbones/catalog",
    "features/__init__", "features/arrays", "features/store", "inference/__init__", "inference/completed",
    "inference/examples", "inference/results", "inference/writing", "inference/export/__init__",
    "inference/export/formats",
]  # fmt: skip
HEAVY = {"tensorflow", "keras", "keras_hub", "tensorflow_datasets"}


def imports(source, top_level_only=False):
    tree = ast.parse(source)
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]


def violations(package):
    found = []
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).with_suffix("").parts[0]
        if room == "__init__":
            continue
        allowed = ONLY.get(room, set(ORDER[: ORDER.index(room) + 1]))
        for name in imports(path.read_text()):
            parts = name.split(".")
            if parts[0] == "finetune" and len(parts) > 1 and parts[1] in ORDER:
                if parts[1] not in allowed:
                    found.append(f"{path.relative_to(package)} imports {name}")
    return found


def test_imports_run_one_way():
    assert {p.relative_to(PACKAGE).with_suffix("").parts[0] for p in PACKAGE.rglob("*.py")} == {
        *ORDER, "__init__",
    }  # fmt: skip
    assert violations(PACKAGE) == []


def test_a_planted_violation_is_found(tmp_path):
    (tmp_path / "record.py").write_text("def f():\n    from finetune import runs\n")
    (tmp_path / "reporting").mkdir()
    (tmp_path / "reporting" / "page.py").write_text("import finetune.freezing.plan\n")
    assert len(violations(tmp_path)) == 2


def files_of(room):
    return sorted((PACKAGE / room).rglob("*.py")) or [PACKAGE / f"{room}.py"]


@pytest.mark.parametrize("room", TENSORFLOW_FREE)
def test_no_tensorflow_at_import(room):
    for path in files_of(room):
        found = {name.split(".")[0] for name in imports(path.read_text(), top_level_only=True)}
        assert not HEAVY & found, path
