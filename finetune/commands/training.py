"""`train`: through Hydra's own main, so that run directories, launchers and sweeps are Hydra's."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from finetune.commands.arguments import split_overrides
from finetune.commands.failures import block
from finetune.commands.libraries import import_runs
from finetune.commands.sweeping import Sweep, num_jobs
from finetune.errors import ConfigError, FinetuneError
from finetune.startup import STARTED


def train(arguments: list[str], console: Console) -> int:
    """Trains one run, or the jobs of a sweep."""
    from finetune.composition import compose_config, normalise, run_directory
    from finetune.run_directory import locked, refuse_occupied

    overrides, search, flags = split_overrides(arguments)
    sweep: Sweep | None = None
    where = [] if search is None else ["--config-dir", str(search)]
    failures: list[int] = []
    with ExitStack() as held:
        if "--multirun" in flags or "-m" in flags:
            _refuse_occupied_sweep(overrides, search)
            total = num_jobs(normalise(overrides)) if search is None else None
            sweep = Sweep(console, total)
            held.callback(sweep.show)
        elif not flags:
            with console.status("reading the config"):
                directory = run_directory(compose_config(overrides, search))
            held.enter_context(locked(directory))  # before Hydra writes into it
            refuse_occupied(directory, "hydra.run.dir")
        _run_hydra([*flags, *where, *normalise(overrides)], _job(failures, sweep, console))
    if not failures:
        return 0
    return failures[0] if len(set(failures)) == 1 else 1


def _refuse_occupied_sweep(overrides: list[str], search: Path | None) -> None:
    from finetune.composition import compose_config
    from finetune.run_directory import refuse_occupied

    mine = [each for each in overrides if each.startswith("hydra.sweep.dir=")]
    compose_config(mine, search)
    for each in mine:
        refuse_occupied(Path(each.partition("=")[2]), "hydra.sweep.dir")


def _job(failures: list[int], sweep: Sweep | None, console: Console) -> Callable[..., None]:
    """Returns the function that Hydra calls for each job; in a sweep a failed one raises nothing."""
    shared: list[Any] = []  # the workbench of a sweep

    def forget() -> None:
        for workbench in shared:
            workbench.forget()

    def trained(composed, hydra) -> None:  # noqa: ANN001 - OmegaConf nodes
        from finetune.reading import read
        from finetune.reporting.trackers.choice import require_installed
        from finetune.run_directory import locked
        from finetune.saved_config import save_resolved

        config = read(composed)
        require_installed(config.trackers)
        with console.status("loading TensorFlow"):
            runs = import_runs()
        if not shared:
            shared.append(runs.Workbench(keep=sweep is not None))
        started = STARTED if sweep is None else time.time()
        directory = Path(hydra.runtime.output_dir)
        with nullcontext() if sweep is None else locked(directory):
            save_resolved(composed, directory)
            overrides = list(hydra.overrides.task)
            runs.train(
                config, directory, overrides, started, console, shared[0], closing=sweep is None
            )

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
