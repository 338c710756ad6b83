"""Presets to be spoiled, and a place where nothing runs."""

import shutil
import sys

import pytest


@pytest.fixture
def copy(preset, tmp_path):
    """A copy of the preset of a session, to be spoiled."""
    return shutil.copytree(preset, tmp_path / "preset")


@pytest.fixture
def nothing_runs(tmp_path, monkeypatch):
    """A test works in a directory of modules that leave a mark when they are imported."""
    work = tmp_path / "work"
    work.mkdir()
    for name in ("keras_nlp", "keras_cv", "evil"):
        (work / f"{name}.py").write_text("open('MARK', 'w').close()\n")
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(str(work))
    before = set(sys.modules)
    yield
    assert sorted(path.name for path in work.iterdir()) == [
        "evil.py",
        "keras_cv.py",
        "keras_nlp.py",
    ]
    assert not {"evil", "keras_cv", "keras_nlp"} & (set(sys.modules) - before)


def pytest_collection_modifyitems(items):
    """Saving in Keras 3.15 converts variables in a way that NumPy 2 warns about."""
    mark = pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    )
    for item in items:
        if "tests/backbones" in item.path.as_posix():
            item.add_marker(mark)
