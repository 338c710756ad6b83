"""Runs a small task model through a schedule, with features stored or computed."""

from types import SimpleNamespace

import keras
import numpy as np

from finetune.datasets.dataset import Split
from finetune.datasets.pipeline import Examples
from finetune.datasets.readers import ArrayReader
from finetune.evaluation.metrics import report
from finetune.features.cut import task_graph
from finetune.features.phase_cuts import FeatureSettings, PhaseCuts
from finetune.features.service import FeatureService
from finetune.freezing.inventory import take_inventory, to_numpy
from finetune.freezing.plan import make_plan
from finetune.freezing.policies.depth import Depth
from finetune.record.schema import BackboneRecord, DatasetRecord, RunRecord
from finetune.runs.data import require_possible
from finetune.schedule.phase import Phase
from finetune.tasks.objective import ONE, Objective
from finetune.training.compiled_steps import CompiledSteps
from finetune.training.optimizers import OptimizerSettings
from finetune.training.phase_data import BatchSettings, StoredPhaseData, phase_data
from finetune.training.setup import TrainingSetup
from finetune.training.trainer import Trainer
from tests.helpers.tiny_model import make_tiny

SIZES = {"train": 22, "validation": 10, "test": 6}
BATCHES = BatchSettings(batch_size=8, seed=0)
CONTEXT = {"dataset": "d", "preprocessing": {}, "image_size": [16, 16], "precision": "float32"}


def progressive(*depths, epochs=2, rate=3e-3, **more):
    return [Phase(f"depth{depth}", epochs, rate, Depth(depth), **more) for depth in depths]


class Spy:
    """A listener that keeps rows and what was extracted."""

    def __init__(self):
        self.rows, self.extracted = [], []

    def extracting(self, what, done, total):
        self.extracted.append((what, done, total))

    def epoch_ended(self, record, phase, rows):
        self.rows += rows

    def __getattr__(self, name):
        return lambda *arguments: None


def build(make=make_tiny, inputs=None, meddle=None):
    """Makes a seeded model and examples of noise.

    Args:
        make: () -> (task model, stages).
        inputs: (rows, generator) -> model inputs; None: images of the model's shape.
        meddle: Called with the inventory before anything else.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    model, stages = make()
    inventory = take_inventory(model, stages)
    if meddle is not None:
        meddle(inventory)
    generator = np.random.default_rng(0)
    shape = model.input_shape[1:] if inputs is None else None
    examples = {}
    for name, number in SIZES.items():
        if inputs is None:
            given = generator.normal(size=(number, *shape)).astype("float32")
        else:
            given = inputs(number, generator)
        labels = generator.integers(0, 3, number).astype("int32")
        examples[name] = Examples(Split(name, given, labels), ArrayReader(), labels)
    return SimpleNamespace(inventory=inventory, examples=examples, graph=task_graph(inventory))


def make_source(
    built, phases, directory, cache="always", context=CONTEXT, max_bytes=10**9,
    augmentation=None, **settings
):  # fmt: skip
    """Returns the phase data of what `build` made; settings: more of `FeatureSettings`."""
    inventory, train = built.inventory, built.examples["train"]
    plans = [make_plan(p, inventory.infos, inventory.stage_names, inventory.upkeep) for p in phases]
    train.reader.augmentation = augmentation
    cuts = PhaseCuts(
        inventory, built.graph, plans, built.examples,
        FeatureSettings(cache, directory, max_bytes, **settings), context,
    )  # fmt: skip
    require_possible(phases, cuts)
    computed = phase_data(inventory.model, built.examples, BATCHES)
    return StoredPhaseData(FeatureService(cuts, phases, {}), computed, BATCHES)


def train(make, phases, directory, cache="always", inputs=None, meddle=None, **settings):
    """Builds a seeded model and trains it; returns what a test may ask of it.

    Args:
        make: As in `build`.
        phases: The schedule.
        directory: Directory of the store.
        cache: As in `FeatureSettings`.
        inputs: As in `build`.
        meddle: As in `build`.
        settings: As in `make_source`, and `optimizer` and `standardise`.
    """
    built = build(make, inputs, meddle)
    inventory = built.inventory
    standardise = settings.pop("standardise", True)
    optimizer = settings.pop("optimizer", "adamw")
    source = make_source(built, phases, directory, cache, **settings)
    plans = [make_plan(p, inventory.infos, inventory.stage_names, inventory.upkeep) for p in phases]
    record = RunRecord(
        config={}, overrides=[], seed=0, versions={}, device={},
        backbone=BackboneRecord(name="small", source="test", weights_sha256="", stages=[]),
        dataset=DatasetRecord(name="noise", fingerprint="", num_classes=3, classes=[], splits={}),
    )  # fmt: skip
    spy, objective = Spy(), Objective(ONE, 3)
    record.features = source.decisions()
    setup = TrainingSetup(
        CompiledSteps(inventory, objective), tuple(phases), tuple(plans), source,
        OptimizerSettings(optimizer), built.examples["validation"].targets, standardise,
    )  # fmt: skip
    test_labels = built.examples["test"].targets
    Trainer(setup, record, spy).run(lambda outputs: report(outputs, test_labels, "abc", objective))
    weights = {path: to_numpy(variable) for path, variable in inventory.variables.items()}
    return SimpleNamespace(
        record=record, rows=spy.rows, extracted=spy.extracted, weights=weights,
        decisions=record.features, inventory=inventory, source=source,
    )  # fmt: skip
