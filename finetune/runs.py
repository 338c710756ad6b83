"""From a checked config to a finished run: what `train`, `check` and `inspect` have in common."""

import functools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import tensorflow as tf
import yaml

from finetune.building import Run, Workbench
from finetune.config import Config
from finetune.datasets.previews import illustrated
from finetune.datasets.readers import require_decodable
from finetune.describing import card_facts, describe, identity, split_list
from finetune.feeds import direct_feed, feature_service
from finetune.freezing.apply import apply, release
from finetune.freezing.counts import WeightCounts, count
from finetune.freezing.schedule import as_config
from finetune.record import Listeners, RunRecord
from finetune.record_files import RecordListener, file_digest
from finetune.reporting.terminal.console import (
    Console,
    ConsoleListener,
    show_check,
    show_plan,
)
from finetune.reporting.trackers.choice import chosen
from finetune.reporting.trackers.listener import TrackersListener
from finetune.resuming import Earlier, differences, require_allowed
from finetune.saved_config import read_overrides, save
from finetune.training.bookkeeping import phase_record
from finetune.training.checkpoints import Checkpoints
from finetune.training.evaluation import Report, report
from finetune.training.keeping import Keeping
from finetune.training.optimizers import OptimizerSettings
from finetune.training.trainer import SameFeed, Trainer

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
    with _damage_named(run):
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
    with _damage_named(run):
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
    from finetune.reporting.report import ReportListener

    record = describe(run, config, overrides)
    record.seconds.update(spent)
    direct = direct_feed(run, config)
    decided = None if earlier is None else earlier.decided
    features = feature_service(run, config, direct, decided)
    others = {"schedule.yaml": yaml.safe_dump(as_config(run.phases), sort_keys=False)}
    if run.built.dataset.splits["train"].sources is not None:
        others["splits.csv"] = split_list(run.built.dataset)
    recorder = RecordListener(directory, others)
    listeners = Listeners(
        [
            recorder,
            ReportListener(directory, recorder.run_ended, pictures=closing),
            TrackersListener(
                chosen(config.trackers, directory),
                config.trackers,
                directory,
                failed=lambda line: console.print(line, markup=False),
            ),
            ConsoleListener(
                console,
                directory,
                direct.num_steps,
                [phase.epochs for phase in run.phases],
                closing=closing,
            ),
        ]
    )
    if earlier is None:
        earlier = Earlier(Checkpoints(directory / "checkpoints"))
    Trainer(
        run.built.inventory,
        run.phases,
        run.plans,
        features,
        OptimizerSettings(**asdict(config.optimizer)),
        run.built.programs,
        record=record,
        listener=listeners,
        assess=functools.partial(_assess, run, directory),
        finish=lambda: _finish(run, config, directory / "model", record),
        keeping=Keeping(
            earlier.checkpoints,
            config.runtime.checkpoint_minutes,
            earlier.start,
            (lambda: save(config, directory)) if earlier.changed or earlier.moved else None,
            whole=run.built.origin.source == "own",
        ),
        standardise=config.head.standardise == "auto",
        started=started,
    ).run()
    return record


def _finish(run: Run, config: Config, directory: Path, record: RunRecord) -> None:
    from finetune.reporting.model_card import model_card

    run.built.save(directory, model_card(record, card_facts(run, config)))
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    record.model_sha256 = {str(p.relative_to(directory)): file_digest(p) for p in files}


def check(config: Config, console: Console) -> None:
    """Runs one real step of each phase, validation and test batch included; writes nothing."""
    run = _build_aloud(config, console, Workbench())
    with _damage_named(run):
        try_out(run, config, console)


def try_out(run: Run, config: Config, console: Console) -> None:
    """Runs one real step of each phase of what has been built, as `check` does."""
    feed = direct_feed(run, config)
    feature_service(run, config, feed)  # refuses what no phase could read

    one = replace(
        feed,
        training=lambda first, last, skip=0: feed.training(first, last).take(1),
        validation=lambda: feed.validation().take(1),
        test=None if feed.test is None else lambda: feed.test().take(1),  # type: ignore[misc]
        num_steps=1,
        steps_per_execution=1,
    )
    phases = [replace(phase, epochs=1, solver="gradient") for phase in run.phases]
    infos = run.built.inventory.infos

    def size(index: int) -> int:
        return sum(i.parameters for i in infos if i.path in run.plans[index].trainable)

    # What needs the most memory comes first: that it fails is known soonest.
    order = sorted(range(len(phases)), key=size, reverse=True)
    record = describe(run, config, ())
    Trainer(
        run.built.inventory,
        [phases[index] for index in order],
        [run.plans[index] for index in order],
        SameFeed(one),
        OptimizerSettings(**asdict(config.optimizer)),
        run.built.programs,
        record=record,
        listener=Listeners([]),
        assess=functools.partial(_assess, run, None),
    ).run()
    record.phases = [record.phases[order.index(index)] for index in range(len(phases))]
    show_check(console, record)


def inspect(config: Config, console: Console) -> RunRecord:
    """Shows stages, plan and weight counts of every phase; trains and writes nothing.

    Returns:
        What it has shown: a record with phases that are counted and have not run.
    """
    run = _build_aloud(config, console, Workbench())
    with _damage_named(run):
        return show(run, config, console)


def show(run: Run, config: Config, console: Console) -> RunRecord:
    """Shows what has been built, as `inspect` does."""
    counts: list[WeightCounts] = []
    try:
        for plan in run.plans:
            apply(plan, run.built.inventory)
            counts.append(count(plan, run.built.inventory))
    finally:
        release(run.built.inventory)
    record = describe(run, config, ())
    record.features = feature_service(run, config, direct_feed(run, config)).decisions()
    record.phases = [
        phase_record(index, phase, each, run.built.inventory.stage_names, plan)
        for index, (phase, each, plan) in enumerate(zip(run.phases, counts, run.plans, strict=True))
    ]
    show_plan(console, record)
    return record


def _build_timed(
    config: Config, console: Console, workbench: Workbench, started: float
) -> tuple[Run, dict[str, float]]:
    """Builds, and returns the seconds of the imports before and of the building."""
    built_from = time.time()
    run = _build_aloud(config, console, workbench)
    return run, {"imports": built_from - started, "building": time.time() - built_from}


def _build_aloud(config: Config, console: Console, workbench: Workbench) -> Run:
    with console.status("loading data and backbone"):
        return workbench.run(config)


@contextmanager
def _damage_named(run: Run) -> Iterator[None]:
    """Names the images that could not be decoded: TensorFlow says only that one could not."""
    try:
        yield
    except tf.errors.InvalidArgumentError:
        require_decodable(run.built.dataset.splits.values())
        raise


def _assess(run: Run, directory: Path | None, outputs: np.ndarray) -> Report:
    """Compares outputs, in stored order from the first row, with the labels of the test split.

    Thumbnails of mistakes are written below the run directory, where there is one.
    """
    dataset = run.built.dataset
    split = dataset.splits["test"]
    found = report(
        outputs, split.labels[: len(outputs)], dataset.classes, run.built.programs.objective
    )
    if directory is None:
        return found
    mistakes = illustrated(found.details.mistakes, found.mistaken, split, directory)
    return replace(found, details=replace(found.details, mistakes=mistakes))
