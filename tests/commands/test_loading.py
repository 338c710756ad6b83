"""Before TensorFlow is imported, which takes seconds, a terminal sees that something happens."""

import io
import sys
import time

import pytest

from finetune.cli import main


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize(
    ("verb", "imports"),
    [
        ("train", "training.import_runs"),
        ("check", "planning.import_quietly"),
        ("inspect", "planning.import_quietly"),
    ],
)
def test_a_terminal_says_what_is_loading(verb, imports, quiet, tmp_path, monkeypatch):
    terminal, seen = Terminal(), []

    def imported(*_):
        time.sleep(0.3)  # the least that a person could notice
        seen.append(terminal.getvalue())
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(f"finetune.commands.{imports}", imported)
    assert main([verb, *(["--quiet"] if quiet else [])]) == 130
    (text,) = seen
    if quiet:
        assert text == ""
    else:
        assert text.index("reading the config") < text.index("loading TensorFlow")
