"""What the phases of a run are fitted on: batches of the splits, or stored features of them."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from finetune import __version__
from finetune.errors import ConfigError
from finetune.features.phase_cuts import PhaseCuts
from finetune.features.service import FeatureService
from finetune.features.store import require_writable
from finetune.record.schema import FeatureDecision
from finetune.runs.planned_run import PlannedRun
from finetune.schedule.phase import Phase
from finetune.training.exact import exact_head_problems
from finetune.training.phase_data import PhaseData, StoredPhaseData, phase_data


def computed_data(run: PlannedRun) -> PhaseData:
    """Returns the data of a phase without stored features."""
    return phase_data(run.built.inventory.model, run.built.examples, run.settings.batches)


def stored_data(
    run: PlannedRun,
    computed: PhaseData,
    decided: Mapping[int, FeatureDecision] | None = None,
) -> StoredPhaseData:
    """Returns the data source of a run, which uses stored features where they are worth it.

    Args:
        run: The planned run.
        computed: The data of a phase without stored features.
        decided: The final decisions of an earlier process by index of the phase.

    Raises:
        ConfigError: If phases cannot use stored features as the config asks.
    """
    built = run.built
    cuts = PhaseCuts(
        built.inventory,
        built.steps.graph,
        run.plans,
        built.examples,
        run.settings.features,
        context={
            "preprocessing": built.origin.preprocessing_sha256,
            "precision": f"{built.device.kind} {built.device.precision}",
            "versions": {
                "finetune": __version__,
                **{name: version(name) for name in ("keras", "keras-hub", "tensorflow")},
            },
        },
        label=f"{built.origin.name} on {built.dataset.name}",
    )
    require_possible(run.phases, cuts)
    features = FeatureService(cuts, run.phases, built.steps.parts, decided)
    return StoredPhaseData(features, computed, run.settings.batches)


def require_possible(phases: Sequence[Phase], cuts: PhaseCuts) -> None:
    """Refuses settings that stored features cannot meet, before anything trains.

    Raises:
        ConfigError: With all problems at once.
    """
    problems = [cuts.views_problem(), *exact_head_problems(phases, cuts)]
    found = [problem for problem in problems if problem is not None]
    if found:
        raise ConfigError(found)
    if cuts.settings.cache != "never":
        require_writable(cuts.settings.directory)
