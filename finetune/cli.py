"""The command line: verbs, Hydra, exit codes.

Exit codes: 0 done; 2 the input is wrong (one block on stderr, no traceback); 1 anything else;
130 interrupted. TensorFlow is imported only by the verbs that build a model, and only after the
config has been checked.
"""

import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

from finetune import __version__
from finetune.durable import storage_error
from finetune.errors import ConfigError, FinetuneError, unknown_name
from finetune.printable import printable
from finetune.startup import left_out, native_stderr_held, sigterm_raised

STARTED = time.time()
INTERRUPTED = 130
LONGEST = 4000  # characters of one problem on stderr

HELP = """\
Fine-tune pretrained Keras models: freeze by plan, unfreeze by phase, prove what stayed fixed.

usage: python -m finetune [VERB] [OVERRIDES…]

verbs
  train     train and write a run directory (the default verb)
            -m, --multirun   one job for each combination of a=1,2 b=x,y
  check     compose, validate, build, and run one real step of each phase; trains nothing
  inspect   show stages, freeze plan and weight counts of every phase; trains nothing
  resume    RUN_DIR: go on where a run stopped, exactly
            --allow-changed [OVERRIDES…]   also with another config, dataset, backbone or library
  catalog   [backbones | datasets | schedules | experiments | policies | features]: what there is
            features --clear   empty the store of features

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
    try:
        with sigterm_raised():
            return _dispatch(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except FinetuneError as error:
        print(_block(error), file=sys.stderr)
        return error.exit_code
    except OSError as error:  # Hydra's own files
        named = storage_error(error.filename or "the run directory", error)
        if named is None:
            raise
        print(_block(named), file=sys.stderr)
        return named.exit_code


def _dispatch(arguments: list[str]) -> int:
    if any(each in ("-h", "--help", "help") for each in arguments[:2]):
        print(HELP, end="")
        return 0
    if "--version" in arguments[:1]:
        print(f"finetune {__version__}")
        return 0
    verb, rest = "train", arguments
    if arguments and not arguments[0].startswith(("-", "+", "~")) and "=" not in arguments[0]:
        verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        raise ConfigError(unknown_name("VERB", "a verb, or an override KEY=VALUE", verb, VERBS))
    return VERBS[verb](rest)


def _block(error: FinetuneError) -> str:
    """Returns what stderr shows: one line for one problem, a list for several."""
    found = error.problems if isinstance(error, ConfigError) else [str(error)]
    problems = [
        text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
        for text in map(printable, found)
    ]
    if len(problems) > 1:
        return "\n  - ".join([f"error: {len(problems)} problems", *problems])
    return f"error: {problems[0]}"


def _catalog(arguments: list[str]) -> int:
    from finetune.catalog import show

    show(arguments)
    return 0


def _resume(arguments: list[str]) -> int:
    flags = [each for each in arguments if each.startswith("-")]
    given = [each for each in arguments if not each.startswith("-")]
    if not given or any("=" not in each for each in given[1:]) or set(flags) - {"--allow-changed"}:
        raise ConfigError(
            "resume must be given one run directory, then overrides and --allow-changed, if any. "
            f"Received: {' '.join(arguments) or 'nothing'}. Write python -m finetune resume RUN_DIR."
        )
    from finetune.resuming import read_run
    from finetune.run_directory import locked
    from finetune.saved_config import read_saved

    directory, allow_changed = Path(given[0]), bool(flags)
    config = read_saved(directory, given[1:])
    with locked(directory):
        _log_to(directory / "finetune.log")
        earlier = read_run(directory, config, allow_changed)
        if earlier is None:
            print(f"{directory} is completed: nothing is left to do")
            return 0
        _import_runs().resume(config, directory, earlier, allow_changed, STARTED)
    return 0


def _log_to(path: Path) -> None:
    """Logs where the run has logged; as configs/hydra/job_logging/file.yaml has it."""
    plain = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=plain, filename=path, force=True)


def _with_config(action: str) -> Callable[[list[str]], int]:
    """Returns a verb that composes one config and hands it to `finetune.runs`."""

    def verb(arguments: list[str]) -> int:
        from finetune.composition import compose_config
        from finetune.reading import read

        overrides, search, flags = _split(arguments)
        if flags:
            raise ConfigError(f"{action} takes overrides only. Received: {' '.join(flags)}.")
        config = read(compose_config(overrides, search))
        getattr(_import_runs(), action)(config)
        return 0

    return verb


def _import_runs() -> ModuleType:
    """Imports what builds models, and so TensorFlow, with its start-up lines held back."""
    # Where the log cannot be written, what matters cannot either, and says so in one line.
    logging.raiseExceptions = False
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    # Off by default on AMD processors, where it doubles the speed of convolutions.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    logging.getLogger("absl").setLevel(logging.ERROR)
    # Keras imports it where it is there, for wrappers that no run uses: a second. What needs it
    # imports it later.
    with native_stderr_held(), left_out("sklearn"):
        from finetune import runs
    return runs


def _train(arguments: list[str]) -> int:
    """Trains through Hydra's own main, so that run directories, launchers and sweeps are Hydra's."""
    from finetune.composition import compose_config, normalise, run_directory
    from finetune.run_directory import locked, refuse_occupied

    overrides, search, flags = _split(arguments)
    sweeping = "--multirun" in flags or "-m" in flags
    where = [] if search is None else ["--config-dir", str(search)]
    failures: list[int] = []
    with ExitStack() as held:
        if sweeping:
            _refuse_occupied_sweep(overrides, search)
        elif not flags:
            directory = run_directory(compose_config(overrides, search))
            held.enter_context(locked(directory))  # before Hydra writes into it
            refuse_occupied(directory, "hydra.run.dir")
        _run_hydra([*flags, *where, *normalise(overrides)], _job(failures, sweeping))
    if not failures:
        return 0
    return failures[0] if len(set(failures)) == 1 else 1


def _split(arguments: list[str]) -> tuple[list[str], Path | None, list[str]]:
    """Splits arguments into overrides, the extra config directory and Hydra's own flags."""
    overrides: list[str] = []
    flags: list[str] = []
    search: Path | None = None
    pending = iter(arguments)
    for each in pending:
        name, equals, value = each.partition("=")
        if name in ("--config-dir", "-cd"):
            search = Path(value if equals else next(pending, ""))
            if not search.is_dir():
                raise ConfigError(
                    f"--config-dir must be a directory. Received: {search}. "
                    "It holds groups like configs/: schedule/mine.yaml."
                )
        elif name in ("--cfg", "-c", "--info", "-i", "--package", "-p") and not equals:
            flags += [each, *([value] if (value := next(pending, "")) else [])]
        elif each.startswith("-"):
            flags.append(each)
        else:
            overrides.append(each)
    return overrides, search, flags


def _refuse_occupied_sweep(overrides: list[str], search: Path | None) -> None:
    from finetune.composition import compose_config
    from finetune.run_directory import refuse_occupied

    mine = [each for each in overrides if each.startswith("hydra.sweep.dir=")]
    compose_config(mine, search)
    for each in mine:
        refuse_occupied(Path(each.partition("=")[2]), "hydra.sweep.dir")


def _job(failures: list[int], sweeping: bool) -> Callable[..., None]:
    """Returns the function that Hydra calls for each job; it never raises for a failed job."""
    shared: list[Any] = []  # the workbench of a sweep

    def forget() -> None:
        for workbench in shared:
            workbench.forget()

    def job(composed) -> None:  # noqa: ANN001 - an OmegaConf node
        from hydra.core.hydra_config import HydraConfig

        from finetune.reading import read
        from finetune.run_directory import locked
        from finetune.saved_config import save_resolved

        hydra = HydraConfig.get()
        label = f"job {hydra.job.num}: " if sweeping else ""
        try:
            config = read(composed)
            runs = _import_runs()
            if not shared:
                shared.append(runs.Workbench(keep=sweeping))
            started = time.time() if sweeping else STARTED
            directory = Path(hydra.runtime.output_dir)
            with locked(directory) if sweeping else nullcontext():
                save_resolved(composed, directory)
                runs.train(config, directory, list(hydra.overrides.task), started, shared[0])
        except FinetuneError as error:
            forget()
            print(f"{label}{_block(error)}", file=sys.stderr)
            failures.append(error.exit_code)
        except Exception:
            if not sweeping:
                raise
            forget()
            print(label + traceback.format_exc(), file=sys.stderr)
            failures.append(1)

    return job


def _run_hydra(arguments: list[str], job: Callable[..., None]) -> None:
    """Runs `job` under ``hydra.main``; Hydra's refusals are raised as ConfigError."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from finetune.composition import config_dir, register_schema

    register_schema()
    saved = sys.argv
    sys.argv = ["finetune", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise to us instead of printing and exiting
    try:
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(" ".join(str(error).split())) from error
    finally:
        sys.argv = saved


VERBS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "check": _with_config("check"),
    "inspect": _with_config("inspect"),
    "resume": _resume,
    "catalog": _catalog,
}
