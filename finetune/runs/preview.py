"""What a run would be, without training: one real step of each phase, or the plan alone."""

import functools
from dataclasses import asdict, replace

from finetune.config.schema import Config
from finetune.datasets.readers import damage_named
from finetune.errors import NotFiniteError
from finetune.evaluation.assess import assess
from finetune.freezing.apply import apply, release
from finetune.freezing.counts import WeightCounts, count
from finetune.record.listener import Listeners
from finetune.record.schema import RunRecord
from finetune.reporting.terminal.console import (
    Console,
    show_check,
    show_notices,
    show_plan,
)
from finetune.runs.build import LOADING, Run, Workbench
from finetune.runs.data import computed_data, stored_data
from finetune.runs.describe import describe
from finetune.training.bookkeeping import phase_record
from finetune.training.optimizers import OptimizerSettings
from finetune.training.phase_data import SamePhaseData
from finetune.training.trainer import Trainer


def check(config: Config, console: Console) -> None:
    """Runs one real step of each phase, validation and test batch included; writes nothing."""
    run = _built(config, console)
    with damage_named(run.built.dataset.splits.values()):
        try_out(run, config, console)


def try_out(run: Run, config: Config, console: Console) -> None:
    """Runs one real step of each phase of what has been built, as `check` does."""
    computed = computed_data(run, config)
    stored_data(run, config, computed)  # refuses what no phase could read

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

    # What needs the most memory comes first: that it fails is known soonest.
    order = sorted(range(len(phases)), key=size, reverse=True)
    record = describe(run, config, ())
    try:
        Trainer(
            run.built.inventory,
            [phases[index] for index in order],
            [run.plans[index] for index in order],
            SamePhaseData(one),
            OptimizerSettings(**asdict(config.optimizer)),
            run.built.programs,
            record=record,
            listener=Listeners([]),
            assess=functools.partial(
                assess, run.built.dataset, run.built.programs.objective, None, run.metrics
            ),
        ).run()
    except NotFiniteError as error:
        advice = (
            "This was a try, and wrote nothing. Look for inputs that are not scaled and labels that "
            "are not right; then for a smaller rate:"
        )
        raise NotFiniteError(error.received, error.override, advice) from error
    record.phases = [record.phases[order.index(index)] for index in range(len(phases))]
    show_check(console, record)


def inspect(config: Config, console: Console) -> RunRecord:
    """Shows stages, plan and weight counts of every phase; trains and writes nothing.

    Returns:
        What it has shown: a record with phases that are counted and have not run.
    """
    run = _built(config, console)
    with damage_named(run.built.dataset.splits.values()):
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
    record.features = stored_data(run, config, computed_data(run, config)).decisions()
    record.phases = [
        phase_record(index, phase, each, run.built.inventory.stage_names, plan)
        for index, (phase, each, plan) in enumerate(zip(run.phases, counts, run.plans, strict=True))
    ]
    show_plan(console, record)
    return record


def _built(config: Config, console: Console) -> Run:
    workbench = Workbench()
    with console.status(LOADING):
        run = workbench.run(config)
    show_notices(console, workbench.news())
    return run
