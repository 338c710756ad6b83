"""Trains or resumes a run: from its config to a completed run directory."""

import functools
import logging
import time
from dataclasses import dataclass, replace
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
from finetune.runs.build import LOADING, Workbench
from finetune.runs.data import computed_data, stored_data
from finetune.runs.describe import card_facts, describe, identity, phase_costs, split_list
from finetune.runs.planned_run import PlannedRun
from finetune.runs.rescue import rescued, restore
from finetune.runs.resume import InterruptedRun, differences, require_allowed
from finetune.schedule.expand import as_config
from finetune.storage.sealed import file_digest
from finetune.training.checkpointer import Checkpointer
from finetune.training.checkpoints import Checkpoints
from finetune.training.setup import TrainingSetup
from finetune.training.trainer import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """One command, or one call of `FineTuner.fit`.

    Args:
        directory: The run directory, whose lock the caller holds.
        console: Console that shows the run.
        started: Clock time (`time.time`) at which it started.
        overrides: Overrides as the user typed them, for the record.
        closing: Whether to say at the end where everything is and what to try next, and to write
            the pictures as files. A job of a sweep does neither.
    """

    directory: Path
    console: Console
    started: float
    overrides: tuple[str, ...] = ()
    closing: bool = True


def train(config: Config, session: Session, workbench: Workbench | None = None) -> RunRecord:
    """Trains a run and writes its directory.

    Args:
        config: The checked config.
        session: The command.
        workbench: Workbench that the jobs of a sweep share; None for a single run.
    """
    run = _build(config, session, workbench or Workbench())
    with damage_named(run.built.dataset.splits.values()):
        return execute(run, session)


def resume(
    config: Config, session: Session, interrupted: InterruptedRun, allow_changed: bool
) -> RunRecord:
    """Resumes a run from its last checkpoint.

    Args:
        config: The checked config of the run directory.
        session: The command.
        interrupted: How far the run is.
        allow_changed: Whether data, pretrained weights and device may differ.

    Raises:
        ConfigError: If they differ and may not; the message names all changes.
    """
    run = _build(config, session, Workbench())
    interrupted = require_same(run, session.directory, interrupted, allow_changed)
    record = interrupted.record
    overrides = read_overrides(session.directory) if record is None else record.overrides
    with damage_named(run.built.dataset.splits.values()):
        return execute(run, replace(session, overrides=tuple(overrides)), interrupted)


def require_same(
    run: PlannedRun, directory: Path, interrupted: InterruptedRun, allow_changed: bool
) -> InterruptedRun:
    """Compares data, pretrained weights and device with those that a run was started with.

    Returns:
        The interrupted run, with the changes noted if they are allowed.

    Raises:
        ConfigError: If a change is not allowed; the message names all of them.
    """
    if interrupted.record is None:
        return interrupted
    now = identity(describe(run))
    changed = tuple(differences(identity(interrupted.record), now))
    require_allowed(directory, changed, allow_changed)
    return replace(interrupted, changed=(*interrupted.changed, *changed))


def execute(
    run: PlannedRun, session: Session, interrupted: InterruptedRun | None = None
) -> RunRecord:
    """Trains a planned run and writes the run directory.

    Args:
        run: The planned run.
        session: The command.
        interrupted: How far an earlier process came; None: the run starts.
    """
    record = describe(run, session.overrides)
    started = datetime.fromtimestamp(session.started).astimezone()
    record.started = started.isoformat(timespec="seconds")
    record.seconds.update(run.seconds)
    _note_samples(record, run, session.directory)
    computed = computed_data(run)
    decided = None if interrupted is None else interrupted.decided
    is_own = run.built.origin.source == OWN
    setup = TrainingSetup(
        steps=run.built.steps,
        phases=run.phases,
        plans=run.plans,
        data=stored_data(run, computed, decided),
        optimizer=run.settings.optimizer,
        validation_labels=run.built.dataset.splits["validation"].labels,
        standardise=run.settings.features.standardise,
        save_all_weights=is_own,
    )
    trainer = Trainer(
        setup,
        record,
        _listeners(run, session, computed.num_steps),
        _checkpointer(run, session.directory, interrupted),
        session.started,
    )
    with rescued(session.directory, lambda place: _save_model(run, place, record)):
        trainer.run(
            assess=functools.partial(
                assess, run.built.dataset, run.built.objective, session.directory, run.metrics
            ),
            finish=lambda: _finish(run, session.directory / "model", record),
        )
    return record


def _checkpointer(
    run: PlannedRun, directory: Path, interrupted: InterruptedRun | None
) -> Checkpointer:
    minutes = run.settings.checkpoint_minutes
    if interrupted is None:
        return Checkpointer(Checkpoints(directory / "checkpoints"), minutes)
    differs = bool(interrupted.changed) or interrupted.moved
    return Checkpointer(
        interrupted.checkpoints,
        minutes,
        interrupted.resume_point,
        functools.partial(save, run.config, directory) if differs else None,
    )


def _note_samples(record: RunRecord, run: PlannedRun, directory: Path) -> None:
    """Records samples of what the model sees; only an example that cannot be decoded ends the run."""
    began = time.monotonic()
    try:
        examples = run.built.examples["train"]
        record.dataset.samples = take_samples(examples, run.built.dataset.classes, directory)
    except (StorageError, tf.errors.InvalidArgumentError):
        raise
    except Exception:
        log.exception("the training examples could not be shown; the run continues")
    record.seconds["reporting"] = time.monotonic() - began


def _listeners(run: PlannedRun, session: Session, num_steps: int) -> Listeners:
    """Returns everything that follows a run; the record comes first, so that nothing is lost."""
    from finetune.reporting.report import ReportListener

    config, directory, console = run.config, session.directory, session.console
    others = {
        "schedule.yaml": yaml.safe_dump(as_config(run.phases), sort_keys=False),
        SPLITS_FILE: split_list(run.built.dataset),
    }
    saved = None if run.built.origin.source == OWN else config
    recorder = RecordListener(directory, others, lambda: restore(saved, directory, console))
    report = ReportListener(directory, recorder.run_ended, pictures=session.closing)
    trackers = TrackersListener(
        chosen(config.trackers, directory),
        config.trackers,
        directory,
        failed=lambda line: console.print(line, markup=False),
    )
    epochs = [phase.epochs for phase in run.phases]
    costs = functools.partial(phase_costs, run)
    shown = ConsoleListener(
        console, directory, num_steps, epochs, closing=session.closing, costs=costs
    )
    return Listeners([recorder, report, trackers, shown])


def _save_model(run: PlannedRun, directory: Path, record: RunRecord) -> None:
    from finetune.reporting.model_card import model_card

    run.built.save(directory, model_card(record, card_facts(run)))


def _finish(run: PlannedRun, directory: Path, record: RunRecord) -> None:
    record.remarks = judgement(record)
    for remark in record.remarks:
        log.info("%s", remark)

    _save_model(run, directory, record)
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    record.model_sha256 = {str(p.relative_to(directory)): file_digest(p) for p in files}


def _build(config: Config, session: Session, workbench: Workbench) -> PlannedRun:
    with session.console.status(LOADING):
        run = workbench.run(config, session.started)
    show_notices(session.console, workbench.news())
    return run
