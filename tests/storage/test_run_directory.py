"""One run at a time in a directory, and no directory without a run."""

from pathlib import Path

import pytest

from finetune.errors import ConfigError
from finetune.storage.run_directory import expanded, locked, refuse_occupied


def written(directory, *names):
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x", encoding="utf-8")


def names(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ConfigError("x")])
def test_a_directory_in_which_no_run_began_is_gone_with_the_folders_made_for_it(tmp_path, error):
    directory = tmp_path / "outputs" / "day" / "time"
    try:
        with locked(directory):
            written(directory, ".hydra/config.yaml", "finetune.log", "multirun.yaml")
            if error is not None:
                raise error
    except (KeyboardInterrupt, ConfigError):
        pass
    assert names(tmp_path) == []


def test_a_run_that_has_begun_stays(tmp_path):
    directory = tmp_path / "day" / "time"
    with pytest.raises(KeyboardInterrupt), locked(directory):
        written(directory, ".hydra/config.yaml", "run.json")
        raise KeyboardInterrupt
    assert names(directory) == [".hydra", ".hydra/config.yaml", ".lock", "run.json"]


def test_what_was_there_before_stays(tmp_path):
    written(tmp_path / "run", ".hydra/config.yaml", "note.txt", "other.log")
    with locked(tmp_path / "run"):
        written(tmp_path / "run", "finetune.log")
    assert names(tmp_path / "run") == [".hydra", ".hydra/config.yaml", "note.txt", "other.log"]
    (tmp_path / "empty").mkdir()
    with locked(tmp_path / "empty"):
        pass
    assert names(tmp_path / "empty") == []
    with locked(tmp_path / "day" / "first"), locked(tmp_path / "day" / "second"):
        written(tmp_path / "day" / "first", "run.json")
    assert names(tmp_path / "day") == ["first", "first/.lock", "first/run.json"]


def test_of_a_sweep_the_jobs_that_began_stay(tmp_path):
    sweep = tmp_path / "multirun" / "time"
    with locked(sweep):
        written(sweep, "multirun.yaml", "a/0/.hydra/config.yaml", "a/0/finetune.log")
        with locked(sweep / "a" / "0", sweep):
            pass
        assert names(sweep) == [".lock", "multirun.yaml"]
        with locked(sweep / "a" / "1", sweep):
            written(sweep, "a/1/.hydra/config.yaml", "a/1/run.json")
    assert "a/1/.hydra/config.yaml" in names(sweep)
    assert "multirun.yaml" in names(sweep)


def test_a_second_run_is_refused_and_changes_nothing(tmp_path):
    with locked(tmp_path / "run"):
        written(tmp_path / "run", "finetune.log")
        before = names(tmp_path)
        with pytest.raises(ConfigError, match="which another process uses"):
            with locked(tmp_path / "run"):
                raise AssertionError("two runs hold one directory")
        assert names(tmp_path) == before


def test_a_directory_that_somebody_removes_in_the_meantime_is_no_error(tmp_path):
    with locked(tmp_path / "day" / "run"):
        for path in (".lock", ""):
            place = tmp_path / "day" / "run" / path
            place.unlink() if path else place.rmdir()
    assert names(tmp_path) == []


def test_an_occupied_directory_names_the_run_and_how_it_goes_on(tmp_path):
    written(tmp_path, "0/run.json")
    with pytest.raises(ConfigError, match=r"it holds 0/run\.json.*resume .*/0"):
        refuse_occupied(tmp_path, "hydra.sweep.dir")


def test_a_home_directory_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/runs", "hydra.run.dir") == tmp_path / "runs"
    assert expanded("runs/~", "hydra.run.dir") == Path("runs/~")
    with pytest.raises(ConfigError, match="hydra.run.dir must be below a home directory that"):
        expanded("~nobody-of-this-name/runs", "hydra.run.dir")
