"""From a checked config to a finished run: what `train` and `resume` have in common."""

import functools
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import tensorflow as tf
import yaml

from finetune.config.saved import read_overrides, save
from finetune.config.schema import Config
from finetune.datasets.readers import damage_named
from finetune.errors import StorageError
from finetune.evaluation.assess import assess
from finetune.evaluation.samples import take_samples
from finetune.record.files import SPLITS_FILE, RecordListener
from finetune.record.listener import Listeners
from finetune.record.schema import OWN, RunRecord
from finetune.reporting.remarks import judgement
from finetune.reporting.terminal.console import (
    Console,
    ConsoleListener,
    show_notices,
)
from finetune.reporting.trackers.choice import chosen
from finetune.reporting.trackers.listener import TrackersListener
from finetune.runs.build import LOADING, Run, Workbench
from finetune.runs.data import computed_data, stored_data
from finetune.runs.describe import card_facts, describe, identity, phase_costs, split_list
from finetune.runs.rescue import rescued, restore
from finetune.runs.resume import Earlier, differences, require_allowed
from finetune.schedule.expand import as_config
from finetune.storage.sealed import file_digest
from finetune.training.checkpoints import Checkpoints
from finetune.training.keeping import Keeping
from finetune.training.optimizers import OptimizerSettings
from finetune.training.trainer import Trainer

log = logging.getLogger(__name__)


def train(
    config: Config,
    directory: Path,
    overrides: Sequence[str],
    started: float,
    console: Console,
    workbench: Workbench | None = None,
    closing: bool = True,
) -> RunRecord:
    """Trains and writes the run directory.

    Args:
        config: checked.
        directory: the run directory; Hydra has made it.
        overrides: as typed, for the record.
        started: clock time (`time.time`) of the command's start.
        console: where to show the run.
        workbench: of the jobs of a sweep; None for a run alone.
        closing: whether to say at the end where everything is, and what to try next.
    """
    run, spent = _build_timed(config, console, workbench or Workbench(), started)
    with damage_named(run.built.dataset.splits.values()):
        return execute(run, config, directory, overrides, started, console, spent, closing=closing)


def resume(
    config: Config,
    directory: Path,
    earlier: Earlier,
    allow_changed: bool,
    started: float,
    console: Console,
) -> RunRecord:
    """Goes on with a run from its last checkpoint.

    Args:
        config: of the run directory, checked.
        directory: the run directory.
        earlier: what the run has come to.
        allow_changed: whether data, pretrained weights and device may differ.
        started: clock time of the command's start.
        console: where to show the run.

    Raises:
        ConfigError: naming what is not as it was.
    """
    run, spent = _build_timed(config, console, Workbench(), started)
    earlier = require_same(run, config, directory, earlier, allow_changed)
    record = earlier.record
    overrides = read_overrides(directory) if record is None else record.overrides
    with damage_named(run.built.dataset.splits.values()):
        return execute(run, config, directory, overrides, started, console, spent, earlier)


def require_same(
    run: Run, config: Config, directory: Path, earlier: Earlier, allow_changed: bool
) -> Earlier:
    """Compares data, pretrained weights and device with those that a run was begun with.

    Returns:
        What the run has come to, with the changes noted, where they are allowed.

    Raises:
        ConfigError: naming every change that is not allowed.
    """
    if earlier.record is None:
        return earlier
    now = identity(describe(run, config, ()))
    changed = tuple(differences(identity(earlier.record), now))
    require_allowed(directory, changed, allow_changed)
    return replace(earlier, changed=(*earlier.changed, *changed))


def execute(
    run: Run,
    config: Config,
    directory: Path,
    overrides: Sequence[str],
    started: float,
    console: Console,
    spent: Mapping[str, float],
    earlier: Earlier | None = None,
    closing: bool = True,
) -> RunRecord:
    """Trains what has been built and writes the run directory, which the caller holds.

    Args:
        run: what has been built.
        config: checked.
        directory: the run directory.
        overrides: as typed, for the record.
        started: clock time (`time.time`) of the command's start.
        console: where to show the run.
        spent: seconds since `started` by what they went into, see `RunRecord.seconds`.
        earlier: what an earlier process has come to; None: nothing.
        closing: whether to say at the end where everything is, and what to try next; and whether
            to write pictures as files, beside those in the page. A job of a sweep does neither.
    """
    record = describe(run, config, overrides)
    record.started = datetime.fromtimestamp(started).astimezone().isoformat(timespec="seconds")
    record.seconds.update(spent)
    _note_samples(record, run, directory)
    computed = computed_data(run, config)
    decided = None if earlier is None else earlier.decided
    source = stored_data(run, config, computed, decided)
    listeners = _listeners(run, config, directory, console, computed.num_steps, closing)
    if earlier is None:
        earlier = Earlier(Checkpoints(directory / "checkpoints"))
    trainer = Trainer(
        run.built.inventory,
        run.phases,
        run.plans,
        source,
        OptimizerSettings(**asdict(config.optimizer)),
        run.built.programs,
        record=record,
        listener=listeners,
        assess=functools.partial(
            assess, run.built.dataset, run.built.programs.objective, directory, run.metrics
        ),
        finish=lambda: _finish(run, config, directory / "model", record),
        keeping=Keeping(
            earlier.checkpoints,
            config.runtime.checkpoint_minutes,
            earlier.start,
            (lambda: save(config, directory)) if earlier.changed or earlier.moved else None,
            whole=run.built.origin.source == OWN,
        ),
        standardise=config.head.standardise == "auto",
        started=started,
    )
    with rescued(directory, lambda place: _save_model(run, config, place, record)):
        trainer.run()
    return record


def _note_samples(record: RunRecord, run: Run, directory: Path) -> None:
    """Notes what the model sees; only an example that cannot be decoded ends the run."""
    began = time.monotonic()
    try:
        examples = run.built.examples["train"]
        record.dataset.samples = take_samples(examples, run.built.dataset.classes, directory)
    except (StorageError, tf.errors.InvalidArgumentError):
        raise
    except Exception:
        log.exception("the training examples could not be shown; the run goes on")
    record.seconds["reporting"] = time.monotonic() - began


def _listeners(
    run: Run, config: Config, directory: Path, console: Console, num_steps: int, closing: bool
) -> Listeners:
    """Returns all that hear of a run, in this order: what has happened is written down first."""
    from finetune.reporting.report import ReportListener

    others = {
        "schedule.yaml": yaml.safe_dump(as_config(run.phases), sort_keys=False),
        SPLITS_FILE: split_list(run.built.dataset),
    }
    saved = None if run.built.origin.source == OWN else config
    recorder = RecordListener(directory, others, lambda: restore(saved, directory, console))
    report = ReportListener(directory, recorder.run_ended, pictures=closing)
    trackers = TrackersListener(
        chosen(config.trackers, directory),
        config.trackers,
        directory,
        failed=lambda line: console.print(line, markup=False),
    )
    epochs = [phase.epochs for phase in run.phases]
    costs = functools.partial(phase_costs, run)
    shown = ConsoleListener(console, directory, num_steps, epochs, closing=closing, costs=costs)
    return Listeners([recorder, report, trackers, shown])


def _save_model(run: Run, config: Config, directory: Path, record: RunRecord) -> None:
    from finetune.reporting.model_card import model_card

    run.built.save(directory, model_card(record, card_facts(run, config)))


def _finish(run: Run, config: Config, directory: Path, record: RunRecord) -> None:
    record.remarks = judgement(record)
    for each in record.remarks:
        log.info("%s", each)

    _save_model(run, config, directory, record)
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    record.model_sha256 = {str(p.relative_to(directory)): file_digest(p) for p in files}


def _build_timed(
    config: Config, console: Console, workbench: Workbench, started: float
) -> tuple[Run, dict[str, float]]:
    """Builds, and returns the seconds of the imports before and of the building."""
    built_from = time.time()
    with console.status(LOADING):
        run = workbench.run(config)
    show_notices(console, workbench.news())
    return run, {"imports": built_from - started, "building": time.time() - built_from}
