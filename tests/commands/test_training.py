"""Where a run goes: one directory, resolved once and locked; none of a command that fails early."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from finetune.cli import main
from finetune.commands import training
from finetune.errors import ConfigError


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Runs `train` with a function in the place of the training itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()

    def run(trained, *arguments):
        def stub(config, session, workbench):
            return trained(config, session.directory)

        workbench = SimpleNamespace(forget=lambda: None)
        runs = SimpleNamespace(
            train=stub,
            Session=lambda directory, *others, **more: SimpleNamespace(directory=directory),
            Workbench=lambda keep: workbench,
        )
        monkeypatch.setattr(training, "import_runs", lambda: runs)
        try:
            return main(arguments)
        finally:
            for handler in logging.getLogger().handlers[:]:
                if isinstance(handler, logging.FileHandler):
                    handler.close()
                    logging.getLogger().removeHandler(handler)

    return run


def begun(config, directory):
    (directory / "run.json").write_text("{}", encoding="utf-8")


def failed(config, directory):
    raise ConfigError("dataset.path must be a folder.")


def folders(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir())


def test_the_default_directory_is_one_and_locked(train, tmp_path, capsys):
    seen = []

    def trained(config, directory):
        begun(config, directory)
        assert main(["resume", str(directory)]) == 2
        assert "which another process uses" in capsys.readouterr().err
        seen.append(directory)

    assert train(trained) == 0
    assert [directory.parent.parent.name for directory in seen] == ["outputs"]
    assert [str(path) for path in Path("outputs").glob("*/*")] == [
        str(seen[0].relative_to(tmp_path))
    ]
    assert (seen[0] / "finetune.log").exists()


def test_two_runs_at_once_have_two_directories(train, tmp_path):
    assert train(begun) == train(begun) == 0
    assert len(list(Path("outputs").glob("*/*/run.json"))) == 2


def interrupted(config, directory):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("trained", "code", "arguments"),
    [
        (failed, 2, []),
        (interrupted, 130, []),
        (failed, 2, ["hydra.run.dir=a/b"]),
        (begun, 2, ["seed=x"]),
        (begun, 2, ["hydra.run.dir=${nowhere}"]),
        (failed, 2, ["-m", "seed=0,1"]),
        (interrupted, 130, ["-m", "seed=0,1"]),
        (failed, 2, ["hydra.mode=MULTIRUN", "seed=0,1"]),
        (failed, 2, ["-m", "seed=0,1", "hydra.sweep.dir=s", "hydra.sweep.subdir=a/seed=${seed}"]),
        (begun, 2, ["-m", "seed=0,1", "dataset.batch_size=x"]),
        (begun, 2, ["-m", "seed=0,x"]),
        (failed, 2, ["-m", "seed=0,1", "optimizer.name=adamax"]),
        (begun, 2, ["-m", "seed=0,1", "dataset.path=a (1),b"]),
    ],
)  # fmt: skip
def test_a_command_that_ends_before_it_trains_leaves_no_folder(
    train, tmp_path, trained, code, arguments
):
    assert train(trained, *arguments) == code
    assert folders(tmp_path) == ["home"]


def test_a_sweep_keeps_the_jobs_that_trained(train, tmp_path, capsys):
    def trained(config, directory):
        assert main(["resume", str(directory)]) == 2
        assert "which another process uses" in capsys.readouterr().err
        (begun if config.seed == 1 else failed)(config, directory)

    swept = ["-m", "seed=0,1", "hydra.sweep.dir=~/sweep", "hydra.sweep.subdir=seed=${seed}"]
    assert train(trained, *swept) == 2
    assert folders(tmp_path) == [
        "home", "home/sweep", "home/sweep/seed=1", "home/sweep/seed=1/.hydra",
    ]  # fmt: skip
    assert (tmp_path / "home" / "sweep" / "multirun.yaml").exists()


def test_a_config_that_cannot_be_shown_is_refused_as_one_that_is_run(train, capsys):
    for arguments in (["dataset.path=/a,b"], ["dataset.path=/a,b", "--cfg", "job"]):
        assert train(begun, *arguments) == 2
        shown = capsys.readouterr().err
        assert "If the comma belongs to the value: " in shown
        assert ("add -m: " in shown) == ("--cfg" not in arguments)


def test_the_config_of_a_sweep_cannot_be_shown(train, capsys):
    assert train(begun, "seed=0,1", "-m", "--cfg", "job") == 2
    assert "--cfg must be given without -m: it shows the config of one run." in (
        capsys.readouterr().err
    )


def test_a_job_whose_config_is_refused_leaves_no_folder(train, tmp_path, capsys):
    swept = ["-m", "optimizer.name=adam,adamax", "hydra.sweep.dir=s"]
    assert train(begun, *swept, "hydra.sweep.subdir=${optimizer.name}/0") == 2
    assert "job 1: error: optimizer.name must be an optimizer" in capsys.readouterr().err
    assert [name for name in folders(tmp_path) if "adamax" in name] == []


def test_a_directory_that_the_file_system_refuses_is_no_traceback(train, capsys):
    assert train(begun, "hydra.run.dir=/proc/finetune/a") == 1
    assert "the run directory must be one that can be created. Received: /proc/finetune/a" in (
        capsys.readouterr().err
    )


def test_a_wrong_value_of_one_job_is_named_with_its_number(train, capsys):
    assert train(begun, "-m", "seed=0,x") == 2
    assert "job 1: seed must have the right type. Received: x." in capsys.readouterr().err


@pytest.mark.parametrize("value", ["~/runs/a", "'~/runs/a'", "~/runs/${seed}=é (1)"])
def test_a_home_directory_is_no_folder_of_that_name(train, tmp_path, value):
    assert train(begun, f"hydra.run.dir={value}") == 0
    assert not (tmp_path / "~").exists()
    name = "0=é (1)" if "é" in value else "a"
    assert (tmp_path / "home" / "runs" / name / "run.json").exists()


def test_the_directory_is_that_of_hydras_own_resolvers(train, tmp_path):
    assert train(begun, "hydra.run.dir=${hydra:runtime.cwd}/runs/${hydra:job.name}") == 0
    assert (tmp_path / "runs" / "finetune" / "run.json").exists()
