"""Verbs, exit codes and quick answers, in subprocesses as a user sees them."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from finetune.cli import VERBS, main
from finetune.features.arrays import ArraySpec
from finetune.features.store import Store
from finetune.launcher import PROGRAM
from finetune.reporting.terminal.console import VerboseConsole

QUICK = {
    "help": (["--help"], 0),
    "catalog": (["catalog", "schedules"], 0),
    "features": (["catalog", "features"], 0),
    "mistake": (["schedule.phases.head.epochs=0"], 2),
}


@pytest.mark.parametrize("name", QUICK)
def test_quick_answers_import_no_tensorflow(name):
    arguments, code = QUICK[name]
    script = (
        "import sys; from finetune.cli import main\n"
        f"code = main({arguments!r})\n"
        "heavy = {'tensorflow', 'keras', 'keras_hub', 'tensorflow_datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\nsys.exit(code)\n"
    )
    before = children_seconds()
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == code, result.stderr
    assert children_seconds() - before < 1.5


def children_seconds():
    """Returns the CPU seconds of ended subprocesses, which hardly depend on what else is running."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_all_catalogs_show_their_entries(capsys):
    assert main(["catalog"]) == 0
    shown = capsys.readouterr().out
    for word in ("resnet_mini", "digits", "linear_probe", "resnet_freeze", "norm_only"):
        assert word in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean train?"),
        (["catalog", "backbone"], "Did you mean backbones?"),
        (["catalog", "--clear"], "Use: catalog features --clear."),
        (["catalog", "features", "policies", "--clear"], "must come with the catalog features"),
        (
            ["inspect", "--multirun"],
            "unknown option --multirun for inspect. Valid: --picture",
        ),
        (["--multi-run", "seed=1"], "unknown option --multi-run for train. Valid: --multirun"),
        (["--run"], "unknown option --run for train. Valid: --multirun"),
        (["--config-dir", "nowhere"], "--config-dir must be a directory"),
    ],
)
def test_bad_arguments_exit_2_with_one_block(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error


def test_stored_features_are_listed_and_emptied(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FINETUNE_FEATURES_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "160")
    ingredients = {
        "label": "net on [digits]",
        "split": "train",
        "view": [2, "light"],
        "cut": "pooler",
    }
    specs = [ArraySpec((2,), "float32")]
    with Store(tmp_path, 10**6).writer("0" * 64, 3, specs, ingredients) as writer:
        writer.write([np.zeros((3, 2), "float32")])
    assert main(["catalog", "features"]) == 0
    shown = capsys.readouterr().out
    for word in ("net on [digits]", "train, view 2", "pooler", "1 entries"):
        assert word in shown
    assert main(["catalog", "features", "--clear"]) == 0
    assert "removed from" in capsys.readouterr().out
    assert not (tmp_path / ("0" * 64)).exists()
    assert main(["catalog", "features"]) == 0
    assert "0 entries" in capsys.readouterr().out


def test_several_problems_are_one_list(capsys):
    assert main(["schedule.phases.head.epochs=0", "seed=x"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: 2 problems"
    assert all(line.startswith("  - ") for line in lines[1:])


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("finetune 0.")


def test_a_catalog_is_what_was_asked_for_also_where_the_command_is_quiet(capsys):
    assert main(["catalog", "policies", "-q"]) == 0
    assert "depth" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "verbose"), [([], False), (["-v"], True), (["--verbose"], True)]
)
def test_a_verbose_command_is_given_a_verbose_console(monkeypatch, option, verbose):
    given = []
    monkeypatch.setattr("finetune.cli._function", lambda verb: lambda *a: given.append(a) or 0)
    assert main(["check", *option, "seed=1"]) == 0
    ((arguments, console),) = given
    assert arguments == ["seed=1"] and isinstance(console, VerboseConsole) is verbose


def test_a_command_is_not_both_quiet_and_verbose(capsys):
    assert main(["check", "-v", "--quiet"]) == 2
    assert "--verbose must be given without --quiet" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_page_of_its_own_with_all_its_options(verb, capsys):
    for arguments in ([verb, "--help"], ["help", verb], [verb, "RUN_DIR", "-h"], ["--help", verb]):
        assert main(arguments) == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"usage: {PROGRAM} ")
        assert f"{PROGRAM} {verb}" in shown or verb == "train"
    if verb in ("train", "catalog"):
        return
    assert main([verb, "--nonsense"]) == 2
    valid = capsys.readouterr().err.partition("Valid: ")[2].partition(".")[0].split(", ")
    for option in valid:
        assert option in (*shown.replace(",", " ").split(), "-cd", "none")


def test_the_page_of_the_program_names_every_verb(capsys):
    assert main(["-h"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.split("\n\n")[2].splitlines()[1:]] == list(VERBS)
    assert all(len(line) <= 100 for line in shown.splitlines())


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["--version"]])
def test_help_costs_next_to_nothing(arguments):
    script = (
        "import sys, time; from finetune.cli import main\n"
        f"code = main({arguments!r})\n"
        "print(time.process_time(), file=sys.stderr); sys.exit(code)\n"
    )
    # A measurement of coverage would start in this process, too, and cost more than the help.
    plain = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    seconds = []
    while not seconds or (len(seconds) < 5 and min(seconds) >= 0.1):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=plain
        )
        assert done.returncode == 0
        seconds.append(float(done.stderr))
    assert min(seconds) < 0.1


@pytest.mark.parametrize(
    ("arguments", "terminals", "shown"),
    [([], (True, True), True), ([], (True, False), False), ([], (False, True), False),
     (["seed=x"], (True, True), False)],
)  # fmt: skip
def test_the_bare_command_shows_help_on_a_terminal_and_trains_elsewhere(
    arguments, terminals, shown, capsys, monkeypatch
):
    ran = []
    monkeypatch.setattr("finetune.cli._run", lambda given: ran.append(given) or 0)
    for stream, terminal in zip((sys.stdin, sys.stdout), terminals, strict=True):
        monkeypatch.setattr(stream, "isatty", lambda terminal=terminal: terminal, raising=False)
    assert main(arguments) == 0
    assert ran == ([] if shown else [arguments])
    assert ("usage: " in capsys.readouterr().out) == shown
