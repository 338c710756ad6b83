"""The command that started this process, so that suggestions can repeat it.

`python -m finetune`, the console script `finetune` and `scripts/run` start the same program, but only the
one that was used is known to work in the user's shell.
"""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

VARIABLE = "FINETUNE_LAUNCHER"  # set by scripts/run, which replaces itself with Python
MODULE = ("-m", "finetune")


def launcher(words: Sequence[str], executable: str) -> str:
    """Returns the command without its arguments, quoted for a shell.

    Args:
        words: Command line of the interpreter (`sys.orig_argv`).
        executable: The interpreter (`sys.executable`), which is used if something else, such as a
            notebook, started the process.
    """
    options = iter(range(1, len(words)))
    for index in options:
        word = words[index]
        if tuple(words[index : index + 2]) == MODULE or word == "".join(MODULE):
            ends = index + (2 if word == "-m" else 1)
            return shlex.join(map(_printable, words[:ends]))
        if word in ("-X", "-W"):
            next(options, None)
        elif not word.startswith("-"):
            if os.path.basename(word) != "finetune":
                break
            return (
                "finetune"
                if _found("finetune") == os.path.abspath(word)
                else shlex.quote(_printable(_near(word)))
            )
    return shlex.join([_printable(_interpreter(executable)), *MODULE])


def _interpreter(executable: str) -> str:
    """Returns `python` if the shell finds this interpreter by that name, else its path."""
    found = _found("python")
    return "python" if found in (None, os.path.abspath(executable)) else _near(executable)


def _found(name: str) -> str | None:
    """Returns the path at which the shell finds a program, or None."""
    from shutil import which

    found = which(name)
    return None if found is None else os.path.abspath(found)


def _printable(text: object) -> str:
    from finetune.printable import printable

    return printable(text)


def _near(path: str) -> str:
    """Returns a path relative to the current directory, if it is below it."""
    try:
        here = os.path.join(os.getcwd(), "")
    except OSError:  # the current directory is gone
        return path
    whole = os.path.abspath(path)
    if not whole.startswith(here):
        return path
    near = whole.removeprefix(here)
    return near if "/" in near else f"./{near}"  # a shell looks a bare name up in PATH


PROGRAM = os.environ.get(VARIABLE) or launcher(sys.orig_argv, sys.executable)
"""How this process was started, e.g. ``python -m finetune``."""


def tool(name: str) -> str:
    """Returns the command of a program that is installed beside this interpreter.

    Args:
        name: Name of the program and of the module that it runs.
    """
    python = os.path.abspath(sys.executable)
    if _found(name) == os.path.join(os.path.dirname(python), name):
        return name
    shown = "python" if _found("python") == python else _near(python)
    return shlex.join([_printable(shown), "-m", name])


def installing(extra: str) -> str:
    """Returns the commands that install one of this project's extras.

    This project is in no package index; a package of the same name there is not related to it.
    """
    return (
        f"in the project's folder, pip install -c constraints.txt -e '.[{extra}]', or "
        f"scripts/environment.py {extra}"
    )


_typed: list[str] = []


@contextmanager
def typed(arguments: Sequence[str]) -> Iterator[None]:
    """Remembers the arguments of a command while it runs, for suggestions that repeat them."""
    _typed[:] = arguments
    try:
        yield
    finally:
        _typed.clear()


def may_sweep() -> bool:
    """Tells whether the running command can make a sweep with ``-m``."""
    first = next((word for word in _typed if not word.startswith("-")), "train")
    return (first == "train" or "=" in first) and not {"--cfg", "-c"} & set(_typed)


def typed_again(replaced: Mapping[str, str], *more: str) -> str:
    """Returns the running command with corrections, ready to be pasted into a shell.

    Args:
        replaced: Corrected arguments by the arguments that they replace.
        more: Arguments to add.

    Returns:
        The command; if the call came from Python, the list of overrides.
    """
    if not _typed:
        return str([*replaced.values(), *more])
    return command(*(replaced.get(word, word) for word in _typed), *more)


def command(*words: object) -> str:
    """Returns a command of this program, quoted for a shell.

    Args:
        words: The verb and its arguments. Control characters in them are escaped.
    """
    return " ".join([PROGRAM, *(shlex.quote(_printable(word)) for word in words)])
