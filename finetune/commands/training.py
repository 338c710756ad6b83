"""`train`: runs under ``hydra.main``, so that Hydra makes run directories, launches jobs and sweeps."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from finetune.commands.arguments import split_overrides, unknown_option
from finetune.commands.failures import block
from finetune.commands.libraries import import_runs
from finetune.commands.sweeping import Sweep, num_jobs
from finetune.errors import ConfigError, FinetuneError
from finetune.startup import STARTED

MULTIRUN = ("--multirun", "-m")
# Hydra's options that print something and run nothing.
SHOWING = ("--cfg", "-c", "--package", "-p", "--resolve", "--info", "-i", "--hydra-help")
OPTIONS = ("--multirun", "--config-dir", "--cfg", "--package", "--resolve", "--info")


def train(arguments: list[str], console: Console) -> int:
    """Trains one run, or the jobs of a sweep."""
    from finetune.config.overrides import literal, normalise
    from finetune.storage.run_directory import locked, refuse_occupied

    overrides, search, flags = split_overrides(arguments)
    for flag in flags:
        name = flag.partition("=")[0]
        if name.startswith("-") and name not in (*MULTIRUN, *SHOWING):
            raise ConfigError(unknown_option("train", flag, OPTIONS))
    shown = [flag for flag in flags if flag not in MULTIRUN]
    swept = len(shown) < len(flags) or "hydra.mode=MULTIRUN" in overrides
    if shown and len(shown) < len(flags):
        raise ConfigError(
            f"{shown[0]} must be given without -m: it shows the config of one run. Received: both. "
            "Leave one of them out, and give every key one value."
        )
    where = [] if search is None else ["--config-dir", str(search)]
    failures: list[int] = []
    with ExitStack() as held:
        sweep: Sweep | None = None
        key = "hydra.sweep.dir" if swept else "hydra.run.dir"
        placed: list[str] = []
        if not shown:
            with console.status("reading the config"):
                directory = _directory(overrides, search, swept, key)
            if directory is not None:
                held.enter_context(locked(directory))  # before Hydra writes into it
                refuse_occupied(directory, key)
                placed = [f"{key}={literal(directory)}"]
        if swept:
            total = num_jobs(normalise(overrides, swept)) if search is None else None
            sweep = Sweep(console, total)
            held.callback(sweep.show)
        given = [*flags, *where, *normalise(overrides, swept), *placed]
        try:
            _run_hydra(given, _job(failures, sweep, console))
        except ConfigError as error:
            explained = _of_a_job if swept else _of_the_run
            raise explained(overrides, search, error) from error
    if not failures:
        return 0
    return failures[0] if len(set(failures)) == 1 else 1


def _directory(overrides: list[str], search: Path | None, swept: bool, key: str) -> Path | None:
    """Returns the directory of the run or sweep; None if it differs between the jobs of a sweep.

    Raises:
        ConfigError: If the config, or in a sweep the config of every job, is wrong.
    """
    from omegaconf import DictConfig, OmegaConf

    from finetune.config.compose import compose_config, run_directory
    from finetune.config.overrides import first_job, unparsed, unswept

    if not swept:
        return run_directory(compose_config(overrides, search), key)
    problems = unparsed(overrides, swept)
    if problems:
        raise ConfigError(problems)
    composed: list[DictConfig] = []
    refused: list[ConfigError] = []
    for chosen in (first_job(overrides), unswept(overrides)):
        try:
            composed.append(compose_config(chosen, search))
        except ConfigError as error:
            refused.append(error)
    if len(refused) == 2:  # more is wrong than a swept value
        common = [text for text in refused[0].problems if text in refused[1].problems]
        if common:
            raise ConfigError(common)
    found = set()
    for node in composed:
        OmegaConf.copy_cache(composed[0], node)  # so that ${now:…} gives the same time
        found.add(run_directory(node, key))
    return found.pop() if len(found) == 1 else None


def _of_the_run(overrides: list[str], search: Path | None, error: ConfigError) -> ConfigError:
    """Returns what is wrong with a config that Hydra could not compose, in this program's words."""
    from finetune.config.compose import compose_config

    try:
        compose_config(overrides, search)
    except ConfigError as refused:
        return refused
    return error


def _of_a_job(overrides: list[str], search: Path | None, error: ConfigError) -> ConfigError:
    """Returns what is wrong with the first job of a sweep that Hydra could not compose."""
    from finetune.config.compose import compose_config
    from finetune.config.overrides import jobs

    for number, chosen in enumerate(jobs(overrides)):
        try:
            compose_config(chosen, search)
        except ConfigError as refused:
            return ConfigError(f"job {number}: {problem}" for problem in refused.problems)
    return error


def _job(failures: list[int], sweep: Sweep | None, console: Console) -> Callable[..., None]:
    """Returns the function that Hydra calls for every job; in a sweep, a failed job raises nothing."""
    shared: list[Any] = []  # the workbench, which all jobs of a sweep share

    def forget() -> None:
        for workbench in shared:
            workbench.forget()

    def trained(composed, hydra) -> None:  # noqa: ANN001 - OmegaConf nodes
        from finetune.config.read import read
        from finetune.config.saved import save_resolved
        from finetune.reporting.trackers.choice import require_installed
        from finetune.storage.run_directory import locked

        started = STARTED if sweep is None else time.time()
        directory = Path(hydra.runtime.output_dir)
        place = Path(hydra.sweep.dir).absolute()
        with nullcontext() if sweep is None else locked(directory, place):
            config = read(composed)
            require_installed(config.trackers)
            with console.status("loading TensorFlow"):
                runs = import_runs()
            if not shared:
                shared.append(runs.Workbench(keep=sweep is not None))
            save_resolved(composed, directory)
            overrides = tuple(hydra.overrides.task)
            session = runs.Session(directory, console, started, overrides, closing=sweep is None)
            runs.train(config, session, shared[0])

    def job(composed) -> None:  # noqa: ANN001 - an OmegaConf node
        from hydra.core.hydra_config import HydraConfig

        hydra = HydraConfig.get()
        label = "" if sweep is None else f"job {hydra.job.num}: "
        with nullcontext() if sweep is None else sweep.job(hydra):
            try:
                trained(composed, hydra)
            except FinetuneError as error:
                forget()
                print(f"{label}{block(error)}", file=sys.stderr)
                failures.append(error.exit_code)
            except Exception:
                if sweep is None:
                    raise
                forget()
                print(label + traceback.format_exc(), file=sys.stderr)
                failures.append(1)

    return job


def _run_hydra(arguments: list[str], job: Callable[..., None]) -> None:
    """Runs `job` under ``hydra.main``; raises Hydra's errors as ConfigError."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from finetune.config.compose import config_dir, register_schema

    register_schema()
    saved = sys.argv
    sys.argv = ["finetune", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise an error instead of printing it and exiting
    try:
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(" ".join(str(error).split())) from error
    finally:
        sys.argv = saved
