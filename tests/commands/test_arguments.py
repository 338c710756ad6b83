"""What verbs are given: options in both spellings, and every way to get one wrong."""

import os
from pathlib import Path

import pytest
from rich.console import Console

from finetune.cli import main
from finetune.commands.arguments import (
    config_directory,
    one_of,
    run_argument,
    split_options,
    split_overrides,
    whole_number,
)
from finetune.errors import ConfigError

VALID, FLAGS = ("--format", "--output"), ("--all",)


@pytest.mark.parametrize(
    ("arguments", "options", "others"),
    [
        ([], {}, []),
        (["a", "--format", "csv", "b"], {"--format": "csv"}, ["a", "b"]),
        (["--format=a=b", "seed=1"], {"--format": "a=b"}, ["seed=1"]),
        (["--output", "-"], {"--output": "-"}, []),
        (["--output", "-x.csv"], {"--output": "-x.csv"}, []),
        (["--output=--all", "--all"], {"--output": "--all", "--all": ""}, []),
        (["-", "~a.b"], {}, ["-", "~a.b"]),
        (
            ["--all", "a", "--", "--format", "--", "-x"],
            {"--all": ""},
            ["a", "--format", "--", "-x"],
        ),
    ],
)
def test_options_and_all_others(arguments, options, others):
    assert split_options("verb", arguments, VALID, FLAGS) == (options, others)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fromat", "csv"], r"unknown option --fromat for verb\. "
         r"Valid: --format, --output, --all\. Did you mean --format\?"),
        (["-v"], r"unknown option -v for verb\. Valid: "),
        (["--format"], r"--format must have a value\. Received: --format\."),
        (["--format="], r"--format must have a value\. Received: --format=\."),
        (["--output", "--format=csv"], r"--output must have a value\."),
        (["--output", "--", "a"], r"--output must have a value\."),
        (["--format", "csv", "--format=json"], r"--format must be given once\. Received: --format=json"),
        (["--all", "--all"], r"--all must be given once\."),
        (["--all=yes"], r"--all must have no value\. Received: --all=yes\. Write --all\."),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        split_options("verb", arguments, VALID, FLAGS)


def test_a_value_of_a_few_is_the_first_by_default():
    assert one_of({}, "--format", "a format", ("table", "json")) == "table"
    assert one_of({"--format": "json"}, "--format", "a format", ("table", "json")) == "json"
    with pytest.raises(ConfigError, match="--format must be a format. Received: jsn. .*mean json"):
        one_of({"--format": "jsn"}, "--format", "a format", ("table", "json"))


@pytest.mark.parametrize("text", ["0", "9", "-1", "1.5", "²", "many", "1" * 5000])
def test_a_number_out_of_range_is_refused(text):
    assert whole_number("--top-k", "8", 1, 8, "labels") == 8
    with pytest.raises(ConfigError, match=r"--top-k must be 1\.\.8 \(labels\)\. Received: "):
        whole_number("--top-k", text, 1, 8, "labels")


def test_a_directory_of_configs_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_directory(str(tmp_path)) == tmp_path
    assert split_overrides([f"--config-dir={tmp_path}", "seed=1", "--cfg", "job", "-m"]) == (
        ["seed=1"], tmp_path, ["--cfg", "job", "-m"],
    )  # fmt: skip
    for text, shown in (("", "nothing"), ("nowhere", "nowhere")):
        with pytest.raises(
            ConfigError, match=f"--config-dir must be a directory. Received: {shown}"
        ):
            config_directory(text)


def test_a_file_may_be_called_like_an_option(tmp_path, capsys):
    assert main(["report", "--", "-q"]) == 2
    assert "Received: -q." in capsys.readouterr().err


@pytest.mark.parametrize(
    "verb", ["check", "inspect", "resume", "report", "compare", "evaluate", "predict", "export"]
)
def test_every_verb_names_an_option_that_it_does_not_have(verb, capsys):
    assert main([verb, "--multirun"]) == 2
    assert f"error: unknown option --multirun for {verb}. Valid: " in capsys.readouterr().err


def run_at(directory, seconds, sign=".hydra/hydra.yaml"):
    path = directory / sign
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, (seconds, seconds))
    return directory


def test_latest_is_the_run_that_was_begun_last(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_at(Path("outputs/day/first"), 1000)
    latest = run_at(Path("multirun/day/time/0"), 3000)
    run_at(Path("outputs/second"), 2000, "run.json")
    (latest / "checkpoints").mkdir()
    (Path("outputs/day/first") / "run.json").touch()  # it goes on, but was begun before
    assert run_argument("latest", Console()) == latest
    assert capsys.readouterr().err == "latest is multirun/day/time/0\n"
    assert run_argument("latest", Console(quiet=True)) == latest
    assert capsys.readouterr().err == ""
    assert run_argument("./latest", Console()) == Path("latest")
    Path("latest").mkdir()
    assert run_argument("latest", Console()) == Path("latest")


@pytest.mark.parametrize(
    "arguments",
    [
        ["resume"],
        ["report"],
        ["compare"],
        ["evaluate"],
        ["predict"],
        ["export", "--format", "onnx"],
    ],
)
def test_every_verb_with_a_run_directory_knows_latest(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "latest", *(["x.png"] if arguments == ["predict"] else [])]) == 2
    assert "latest must be a run in outputs/ or multirun/" in capsys.readouterr().err
    run_at(Path("outputs/day/time"), 1000)
    assert main([*arguments, "latest", *(["x.png"] if arguments == ["predict"] else [])]) == 2
    error = capsys.readouterr().err
    assert "latest is outputs/day/time" in error
    assert "Received: outputs/day/time" in error or "outputs/day/time/.hydra" in error


def test_places_below_a_home_directory_are_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["evaluate", "~/r"],
        ["export", "~/r", "--format", "keras"],
        ["report", "~/r"],
    ):
        assert main(arguments) == 2
        assert f"Received: {tmp_path}/r" in capsys.readouterr().err
    for arguments in (
        ["inspect", "--picture", "~/none/x.png"],
        ["compare", "~", "--output", "~/none/x.csv"],
        ["check", "--config-dir", "~/none"],
    ):
        assert main(arguments) == 2
        assert "none" in capsys.readouterr().err
    assert not (tmp_path / "~").exists()


def test_a_run_directory_may_have_an_equals_sign_in_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("sweep/seed=0").mkdir(parents=True)
    for directory in ("sweep/seed=0", str(tmp_path / "sweep" / "seed=0")):
        assert main(["evaluate", directory, "split=train"]) == 2
        error = capsys.readouterr().err
        assert (
            f"RUN_DIR must be the directory of a run, which holds run.json. Received: {directory}"
            in error
        )
    assert main(["evaluate", "split=train"]) == 2
    assert (
        "evaluate must be given one run directory and, optionally, overrides"
        in capsys.readouterr().err
    )
