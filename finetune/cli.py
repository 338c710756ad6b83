"""The command line: verbs, Hydra, exit codes.

Exit codes: 0 for success; 2 if the input is wrong (one block on stderr, no traceback); 130 if
interrupted; 1 for any other failure. Only verbs that build a model import TensorFlow, and only after
the config has been checked.
"""

import os
import sys

from finetune.commands.pages import VERBS as PAGES
from finetune.commands.pages import page

TYPE_CHECKING = False  # as in typing, whose import takes as long as all of this
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

INTERRUPTED = 130
QUIET = ("--quiet", "-q")
VERBOSE = ("--verbose", "-v")
HELP = ("--help", "-h")


def main(argv: "Sequence[str] | None" = None) -> int:
    """Runs one command.

    Args:
        argv: Arguments after the name of the program; None reads ``sys.argv``.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    shown = _asked_for(arguments)
    try:
        if shown is None:
            return _run(arguments)
        _print(shown)
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _asked_for(arguments: list[str]) -> str | None:
    """Returns the help page or version to show, or None if the command runs a verb."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--version" in arguments[:1]:
        from finetune import __version__

        return f"finetune {__version__}\n"
    helped = arguments[:1] == ["help"] or any(word in HELP for word in options)
    streams = (sys.stdin, sys.stdout)
    bare = not arguments and all(stream is not None and stream.isatty() for stream in streams)
    if not helped and not bare:
        return None
    from finetune.launcher import PROGRAM

    verb = next((word for word in options if word in PAGES), None)
    return page(verb, PROGRAM)


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    if not encoding.lower().startswith("utf"):
        from finetune.startup import write_plainly

        write_plainly(sys.stdout)
    print(text, end="", flush=True)


def _run(arguments: list[str]) -> int:
    from finetune.commands.failures import block
    from finetune.errors import FinetuneError
    from finetune.launcher import typed
    from finetune.startup import interrupts_kept, sigterm_raised, write_plainly
    from finetune.storage.durable import storage_error

    write_plainly(sys.stdout, sys.stderr)
    try:
        with interrupts_kept(), sigterm_raised(), typed(arguments):
            return _dispatch(arguments)
    except FinetuneError as error:
        print(block(error), file=sys.stderr)
        return error.exit_code
    except OSError as error:  # Hydra's own files
        named = storage_error(error.filename or "the run directory", error)
        if named is None:
            raise
        print(block(named), file=sys.stderr)
        return named.exit_code


def _dispatch(arguments: list[str]) -> int:
    from finetune.errors import ConfigError, unknown_name
    from finetune.reporting.terminal.console import make_console

    end = arguments.index("--") if "--" in arguments else len(arguments)
    options, rest = arguments[:end], arguments[end:]
    quiet, verbose = (any(word in names for word in options) for names in (QUIET, VERBOSE))
    if quiet and verbose:
        raise ConfigError(
            "--verbose must be given without --quiet. Received: both. Leave one of them out."
        )
    verb, arguments = "train", [*(w for w in options if w not in (*QUIET, *VERBOSE)), *rest]
    if arguments and not arguments[0].startswith(("-", "+", "~")) and "=" not in arguments[0]:
        verb, *arguments = arguments
    if verb not in VERBS:
        raise ConfigError(unknown_name("VERB", "a verb, or an override KEY=VALUE", verb, VERBS))
    return _function(verb)(arguments, make_console(quiet and verb != "catalog", verbose))


def _function(verb: str) -> "Callable[[list[str], Console], int]":
    """Imports the function of a verb, without the modules that only other verbs need."""
    from importlib import import_module

    module, _, name = VERBS[verb].partition(":")
    return getattr(import_module(module), name)


VERBS = {
    "train": "finetune.commands.training:train",
    "check": "finetune.commands.planning:check",
    "inspect": "finetune.commands.planning:inspect",
    "resume": "finetune.commands.resuming:resume",
    "report": "finetune.commands.reporting:report",
    "compare": "finetune.commands.comparing:compare_runs",
    "evaluate": "finetune.commands.evaluating:evaluate",
    "predict": "finetune.commands.predicting:predict",
    "export": "finetune.commands.exporting:export",
    "catalog": "finetune.commands.catalog:show",
}
