"""Previews a run without training it: one real step of each phase, or the plan alone."""

import functools
from dataclasses import replace

from finetune.config.schema import Config
from finetune.datasets.readers import damage_named
from finetune.errors import NotFiniteError
from finetune.evaluation.assess import assess
from finetune.freezing.apply import apply, release
from finetune.freezing.counts import WeightCounts, count
from finetune.record.listener import Listener
from finetune.record.schema import RunRecord
from finetune.reporting.terminal.console import (
    Console,
    show_check,
    show_notices,
    show_plan,
)
from finetune.runs.build import LOADING, Workbench
from finetune.runs.data import computed_data, stored_data
from finetune.runs.describe import describe
from finetune.runs.planned_run import PlannedRun
from finetune.training.bookkeeping import phase_record
from finetune.training.phase_data import SamePhaseData
from finetune.training.setup import TrainingSetup
from finetune.training.trainer import Trainer


def check(config: Config, console: Console) -> None:
    """Runs one real step of each phase, with a validation and a test batch; writes nothing."""
    run = _built(config, console)
    with damage_named(run.built.dataset.splits.values()):
        try_out(run, console)


def try_out(run: PlannedRun, console: Console) -> None:
    """Runs one real step of each phase of a planned run, as `check` does."""
    computed = computed_data(run)
    stored_data(run, computed)  # refuses what stored features cannot do

    one = replace(
        computed,
        training=lambda first, last, skip=0: computed.training(first, last).take(1),
        validation=lambda: computed.validation().take(1),
        test=None if computed.test is None else lambda: computed.test().take(1),  # type: ignore[misc]
        num_steps=1,
        steps_per_execution=1,
    )
    phases = [replace(phase, epochs=1, solver="gradient") for phase in run.phases]
    infos = run.built.inventory.infos

    def size(index: int) -> int:
        return sum(i.parameters for i in infos if i.path in run.plans[index].trainable)

    # The phase that needs the most memory comes first, so that it fails early if it does.
    order = sorted(range(len(phases)), key=size, reverse=True)
    setup = TrainingSetup(
        steps=run.built.steps,
        phases=tuple(phases[index] for index in order),
        plans=tuple(run.plans[index] for index in order),
        data=SamePhaseData(one),
        optimizer=run.settings.optimizer,
        validation_labels=run.built.dataset.splits["validation"].labels,
    )
    record = describe(run)
    try:
        Trainer(setup, record, Listener()).run(
            assess=functools.partial(
                assess, run.built.dataset, run.built.objective, None, run.metrics
            )
        )
    except NotFiniteError as error:
        advice = (
            "This was only a check, which wrote nothing. Look for inputs that are not scaled and for "
            "wrong labels first; then try a smaller rate:"
        )
        raise NotFiniteError(error.received, error.override, advice) from error
    record.phases = [record.phases[order.index(index)] for index in range(len(phases))]
    show_check(console, record)


def inspect(config: Config, console: Console) -> RunRecord:
    """Shows stages, plan and weight counts of every phase; trains and writes nothing.

    Returns:
        The record that it has shown; its phases are counted but have not run.
    """
    run = _built(config, console)
    with damage_named(run.built.dataset.splits.values()):
        return show(run, console)


def show(run: PlannedRun, console: Console) -> RunRecord:
    """Shows a planned run, as `inspect` does."""
    counts: list[WeightCounts] = []
    try:
        for plan in run.plans:
            apply(plan, run.built.inventory)
            counts.append(count(plan, run.built.inventory))
    finally:
        release(run.built.inventory)
    record = describe(run)
    record.features = stored_data(run, computed_data(run)).decisions()
    record.phases = [
        phase_record(index, phase, counted, run.built.inventory.stage_names, plan)
        for index, (phase, counted, plan) in enumerate(
            zip(run.phases, counts, run.plans, strict=True)
        )
    ]
    show_plan(console, record)
    return record


def _built(config: Config, console: Console) -> PlannedRun:
    workbench = Workbench()
    with console.status(LOADING):
        run = workbench.run(config)
    show_notices(console, workbench.news())
    return run
