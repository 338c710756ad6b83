"""The command line: verbs, Hydra, exit codes.

Exit codes: 0 done; 2 the input is wrong (one block on stderr, no traceback); 1 anything else;
130 interrupted. TensorFlow is imported only by the verbs that build a model, and only after the
config has been checked.
"""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from rich.console import Console

from finetune import __version__
from finetune.commands.failures import block
from finetune.durable import storage_error
from finetune.errors import ConfigError, FinetuneError, unknown_name
from finetune.launcher import typed
from finetune.reporting.terminal.console import make_console
from finetune.startup import sigterm_raised, write_plainly

INTERRUPTED = 130
QUIET = ("--quiet", "-q")
VERBOSE = ("--verbose", "-v")

HELP = """\
Fine-tune pretrained Keras models: freeze by plan, unfreeze by phase, prove what stayed fixed.

usage: python -m finetune [VERB] [OVERRIDES…]

verbs
  train     train and write a run directory (the default verb)
            -m, --multirun   one job for each combination of a=1,2 b=x,y
  check     compose, validate, build, and run one real step of each phase; trains nothing
  inspect   show stages, freeze plan and weight counts of every phase; trains nothing
            --picture FILE   also draw the freeze map: .png or .svg
  resume    RUN_DIR: go on where a run stopped, exactly
            --allow-changed [OVERRIDES…]   also with another config, dataset, backbone or library
  report    RUN_DIR: write report.html and plots/ anew, of a run however far it has come
            SWEEP_DIR: write report.html of all runs below it, side by side
  compare   RUN_DIR…: runs side by side; a SWEEP_DIR stands for all runs below it
            --format table|json|csv|html   --output FILE   --sort KEY, e.g. test.accuracy
  evaluate  RUN_DIR: how good the trained model is on its test split; nothing is written
            split=train | validation | test   of the run's data, or held out of others as they were
            dataset.path=…   other files: their test split, or all where they have no splits;
                             labels are matched by name (dataset.name, dataset.columns… too)
            --format table | json | csv
  predict   RUN_DIR FILE…: what the trained model says of each, the most probable labels first.
            Images and folders of images; of a text model "a text", .txt (a text a line) and tables
            (a text a row); .npy of a FineTuner's model; - reads lines of stdin: texts, or file names
            --top-k 3   --format table | json | jsonl | csv
            --batch-size 32   --device auto | cpu | gpu
  export    RUN_DIR --format keras | saved_model | onnx | litert: the model for another runtime,
            with its preprocessing where the format allows, checked there against the run
            --output DIR   where to; else RUN_DIR/export/FORMAT
  catalog   [backbones | datasets | schedules | experiments | policies | features]: what there is
            features --clear   empty the store of features

options of every verb
  -q, --quiet     nothing on the terminal but errors, and what was asked for
  -v, --verbose   the whole table of weight counts for every phase, not only what changes

overrides
  experiment=resnet_freeze                      a whole run by name
  backbone=… dataset=… schedule=… optimizer=…   a config of a group
  seed=1 dataset.batch_size=64                  any key of the config
  schedule.phases.head.learning_rate=3e-3       a phase by its name
  ~schedule.phases.head                         leave a phase out
  hydra.run.dir=DIR                             where the run directory goes
  --config-dir DIR                              one more directory of configs
  --cfg job                                     print the composed config and stop

examples
  python -m finetune experiment=resnet_freeze
  python -m finetune inspect experiment=resnet_freeze
  python -m finetune -m experiment=resnet_probe seed=0,1,2 dataset.train_per_class=10
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: arguments after the program's name; None reads ``sys.argv``.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    write_plainly(sys.stdout, sys.stderr)
    try:
        with sigterm_raised(), typed(arguments):
            return _dispatch(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
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
    if any(each in ("-h", "--help", "help") for each in arguments[:2]):
        print(HELP, end="")
        return 0
    if "--version" in arguments[:1]:
        print(f"finetune {__version__}")
        return 0
    ends = arguments.index("--") if "--" in arguments else len(arguments)  # of the options
    quiet, verbose = (any(e in names for e in arguments[:ends]) for names in (QUIET, VERBOSE))
    if quiet and verbose:
        raise ConfigError(
            "--verbose must be given without --quiet. Received: both. Leave one of them out."
        )
    named = (*QUIET, *VERBOSE)
    arguments = [*(e for e in arguments[:ends] if e not in named), *arguments[ends:]]
    verb, rest = "train", arguments
    if arguments and not arguments[0].startswith(("-", "+", "~")) and "=" not in arguments[0]:
        verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        raise ConfigError(unknown_name("VERB", "a verb, or an override KEY=VALUE", verb, VERBS))
    return _function(verb)(rest, make_console(quiet and verb != "catalog", verbose))


def _function(verb: str) -> Callable[[list[str], Console], int]:
    """Imports what a verb does; what only other verbs need is not imported."""
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
    "catalog": "finetune.catalog:show",
}
