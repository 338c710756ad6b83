"""Imports run one way, and what must answer fast imports no TensorFlow."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / "finetune"


def rooms_of(page):
    """Returns the rooms in the order of the page's table."""
    table = page.partition("\n## Rooms\n")[2].partition("\nImports run one way")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    return [re.sub(r"(\.py|/)$", "", name) for name in re.findall(r"`([^`]+)`", " ".join(cells))]


# A room may import itself and the rooms before it.
ORDER = [
    *rooms_of((TESTS.parent / "docs" / "architecture.md").read_text(encoding="utf-8")),
    "__main__",
]
# Reports are made of records alone: they see no model and no data.
ONLY = {
    "reporting": {
        *("printable", "errors", "launcher", "startup", "storage", "config", "record", "reporting"),
    }
}
# Whole rooms, or single modules of a room.
TENSORFLOW_FREE = [
    "printable", "errors", "launcher", "startup", "keras_internals", "storage", "config", "record",
    "reporting", "commands", "cli", "training/__init__", "training/checkpoints", "datasets/__init__",
    "datasets/catalog", "datasets/offered", "backbones/__init__", "backbones/catalog", "evaluation/__init__",
    "evaluation/built_in", "freezing/__init__", "freezing/policy", "freezing/policies", "schedule",
    "features/__init__", "features/arrays", "features/store", "inference/__init__",
    "inference/completed", "inference/examples", "inference/results", "inference/writing",
    "inference/export/__init__", "inference/export/formats", "runs/__init__", "runs/resume",
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


# Folders of tests that mirror no folder of the package, by what they are about.
OTHER_TESTS = {
    "docs": "the documentation",
    "end_to_end": "whole commands, as a user runs them",
    "research": "how the bundled preset was made",
    "scripts": "scripts/",
}
# Folders of the package whose tests are one file of the folder above.
ONE_FILE = {"freezing/policies": "test_policies.py", "reporting/plots": "test_plots.py"}


def folders_of(root, pattern):
    """Returns the folders below a root that hold a file of this pattern."""
    return {path.parent.relative_to(root).as_posix() for path in root.rglob(pattern)} - {"."}


def test_the_tests_mirror_the_package():
    rooms, tests = folders_of(PACKAGE, "*.py"), folders_of(TESTS, "test_*.py")
    assert tests - rooms == OTHER_TESTS.keys()
    assert rooms - tests == ONE_FILE.keys()
    for folder, name in ONE_FILE.items():
        assert (TESTS / folder).with_name(name).is_file()


def test_no_test_module_imports_another():
    """What tests share is in tests/helpers."""
    modules = sorted(TESTS.rglob("*.py"))
    assert len(modules) > 100
    found = [
        f"{path.relative_to(TESTS)} imports {name}"
        for path in modules
        for name in imports(path.read_text(encoding="utf-8"))
        if name.partition(".")[0] == "tests" and not f"{name}.".startswith("tests.helpers.")
    ]
    assert found == []


def modules_at_import(package):
    """Returns the modules of the package that each of its modules imports when it is imported."""
    names = {
        ".".join(("finetune", *path.relative_to(package).with_suffix("").parts)): path
        for path in package.rglob("*.py")
    }
    graph = {}
    for name, path in names.items():
        found = set(imports(path.read_text(), top_level_only=True))
        graph[name] = {module for module in found if module in names and module != name}
    return graph


def circle(graph):
    """Returns modules of which none can be imported before the others; empty if there are none."""
    left = dict(graph)
    while ready := [name for name in left if not left[name] & left.keys()]:
        for name in ready:
            del left[name]
    return sorted(left)


def test_no_modules_import_each_other():
    graph = modules_at_import(PACKAGE)
    assert len(graph) > 200
    assert circle(graph) == []
    assert circle({"a": {"b"}, "b": {"a"}, "c": {"a"}}) == ["a", "b", "c"]


def test_the_root_is_small():
    rooms = [path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert len(rooms) <= 15
    assert len(list(PACKAGE.glob("*.py"))) <= 8


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


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def is_internal_module(name):
    """Tells whether a dotted name is inside of a part of a library that is not public."""
    parts = name.split(".")
    return "src" in parts or parts[:2] == ["tensorflow", "python"] or any(map(is_private, parts))


def private_members(source):
    """Yields the private members that a module uses and does not define itself."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    own |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for node in nodes:
        if isinstance(node, ast.Attribute):
            if node.attr == "__internal__" or (is_private(node.attr) and node.attr not in own):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("getattr", "setattr", "hasattr", "delattr"):
                name = node.args[1]
                if isinstance(name, ast.Constant) and is_private(str(name.value)):
                    yield ast.unparse(node)
    yield from filter(is_internal_module, imports(source))


PRIVATE_ALLOWED = {"finetune/__main__.py": ["os._exit"], "finetune/startup.py": ["_thread"]}


def test_private_members_of_libraries_are_used_in_one_module_only():
    root = PACKAGE.parent
    found = {}
    for path in sorted(p for room in (PACKAGE, root / "research") for p in room.rglob("*.py")):
        members = list(private_members(path.read_text(encoding="utf-8")))
        if members:
            found[str(path.relative_to(root))] = members
    assert len(found.pop("finetune/keras_internals.py")) > 20
    assert found == PRIVATE_ALLOWED


@pytest.mark.parametrize(
    "line",
    [
        "layer._losses",
        "getattr(layer, '_losses', None)",
        "self._layers",
        "tf.__internal__.tracking",
        "from keras.src.models import functional",
        "from tensorflow.python.framework import config",
        "import hydra._internal.hydra",
        "from omegaconf._utils import get_yaml_loader",
    ],
)
def test_a_planted_private_member_is_found(line):
    assert list(private_members(f"def f(self, layer):\n    {line}\n"))
    assert not list(
        private_members(
            "class A:\n    def f(self):\n        self._x = self._f()\n    def _f(self): ...\n"
        )
    )


def definitions(name):
    """Returns the modules that assign a constant when they are imported."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else ()
            names = {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            if name in names:
                found.append(path.relative_to(PACKAGE).as_posix())
    return found


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("HEAD", "backbones/__init__.py"),
        ("HUGGING_FACE", "backbones/directories.py"),
        ("DAMAGES", "storage/sealed.py"),
        ("__version__", "__init__.py"),
    ],
)
def test_each_of_these_has_one_definition(name, module):
    assert definitions(name) == [module]


def num_parameters(function):
    """Returns how many parameters a function takes, `self` left out."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return sum(parameter.arg not in ("self", "cls") for parameter in named)


def test_constructors_take_at_most_seven_parameters():
    found = []
    for path in PACKAGE.rglob("*.py"):
        for kind in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for member in kind.body if isinstance(kind, ast.ClassDef) else ():
                if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                    if num_parameters(member) > 7:
                        found.append(f"{path.relative_to(PACKAGE).as_posix()}: {kind.name}")
    assert found == []


@pytest.mark.parametrize("room", ["config", "storage", "commands"])
def test_functions_take_at_most_seven_parameters(room):
    for path in files_of(room):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                assert num_parameters(function) <= 7, f"{path}: {function.name}"
