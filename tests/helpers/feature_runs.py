"""Runs a small task model through a schedule, with features stored or computed."""

from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf

from finetune.datasets.pipeline import epoch_order
from finetune.evaluation.metrics import report
from finetune.features.cut import task_graph
from finetune.features.entries import FeatureSettings
from finetune.features.feeding import Feed, Source
from finetune.features.service import FeatureService
from finetune.freezing.inventory import take_inventory, to_numpy
from finetune.freezing.plan import make_plan
from finetune.freezing.policies import FreezeRule
from finetune.record.schema import BackboneRecord, DatasetRecord, RunRecord
from finetune.schedule.phase import Phase
from finetune.tasks.objective import ONE, Objective
from finetune.training.optimizers import OptimizerSettings
from finetune.training.programs import Programs
from finetune.training.trainer import Trainer
from tests.helpers.tiny_model import make_tiny

SIZES = {"train": 22, "validation": 10, "test": 6}
BATCH_SIZE = 8
CONTEXT = {"dataset": "d", "preprocessing": {}, "image_size": [16, 16], "precision": "float32"}


def progressive(*depths, epochs=2, rate=3e-3, **more):
    return [
        Phase(f"depth{depth}", epochs, rate, FreezeRule("depth", unfreeze_depth=depth), **more)
        for depth in depths
    ]


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
    """Makes a seeded model and data of noise: inventory, sources, and the feed that stores nothing.

    Args:
        make: () -> (task model, stages).
        inputs: (rows, generator) -> model inputs; None: images of the model's shape.
        meddle: called with the inventory before anything else.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    model, stages = make()
    inventory = take_inventory(model, stages)
    if meddle is not None:
        meddle(inventory)
    generator = np.random.default_rng(0)
    shape = model.input_shape[1:] if inputs is None else None
    sources, arrays = {}, {}
    for split, number in SIZES.items():
        if inputs is None:
            given = generator.normal(size=(number, *shape)).astype("float32")
        else:
            given = inputs(number, generator)
        labels = generator.integers(0, 3, number).astype("int32")
        arrays[split] = (given, labels)

        def batches(size, view, given=given):
            return tf.data.Dataset.from_tensor_slices(given).batch(size)

        sources[split] = Source(number, labels, batches)

    def training(first, last, skip=0):
        given, labels = arrays["train"]
        rows = epoch_order(SIZES["train"], BATCH_SIZE, 0, first, last, skip)
        return rows.map(
            lambda epoch, row: (tf.nest.map_structure(lambda x: tf.gather(x, row), given),
                         tf.gather(labels, row))
        )  # fmt: skip

    def evaluation(split):
        return tf.data.Dataset.from_tensor_slices(arrays[split]).batch(BATCH_SIZE)

    feed = Feed(
        model, training, lambda: evaluation("validation"), lambda: evaluation("test"), 3
    )  # fmt: skip
    return SimpleNamespace(
        inventory=inventory, sources=sources, feed=feed, graph=task_graph(inventory),
        test_labels=arrays["test"][1],
    )  # fmt: skip


def make_service(
    built, phases, directory, cache="always", context=CONTEXT, max_bytes=10**9, **settings
):
    """Returns the feature service of what `build` made; settings: more of `FeatureSettings`."""
    plans = [
        make_plan(p, built.inventory.infos, built.inventory.stage_names, built.inventory.upkeep)
        for p in phases
    ]
    return FeatureService(
        built.inventory, phases, plans, sources=built.sources, context=context, direct=built.feed,
        graph=built.graph, parts={}, batch_size=BATCH_SIZE, seed=0,
        settings=FeatureSettings(cache, directory, max_bytes, **settings),
    )  # fmt: skip


def train(make, phases, directory, cache="always", inputs=None, meddle=None, **settings):
    """Trains a model made anew and seeded; returns what a test may ask of it.

    Args:
        make: as in `build`.
        phases: the schedule.
        directory: of the store.
        cache: as in `FeatureSettings`.
        inputs: as in `build`.
        meddle: as in `build`.
        settings: as in `make_service`, `optimizer` and `standardise`.
    """
    built = build(make, inputs, meddle)
    inventory = built.inventory
    standardise = settings.pop("standardise", True)
    optimizer = settings.pop("optimizer", "adamw")
    service = make_service(built, phases, directory, cache, **settings)
    plans = [make_plan(p, inventory.infos, inventory.stage_names, inventory.upkeep) for p in phases]
    record = RunRecord(
        config={}, overrides=[], seed=0, versions={}, device={},
        backbone=BackboneRecord(name="small", source="test", weights_sha256="", stages=[]),
        dataset=DatasetRecord(name="noise", fingerprint="", num_classes=3, classes=[], splits={}),
    )  # fmt: skip
    spy, objective = Spy(), Objective(ONE, 3)
    record.features = service.decisions()
    Trainer(
        inventory, phases, plans, service, OptimizerSettings(optimizer),
        Programs(inventory, objective), record=record, listener=spy, standardise=standardise,
        assess=lambda outputs: report(outputs, built.test_labels, "abc", objective),
    ).run()  # fmt: skip
    weights = {path: to_numpy(variable) for path, variable in inventory.variables.items()}
    return SimpleNamespace(
        record=record, rows=spy.rows, extracted=spy.extracted, weights=weights,
        decisions=record.features, inventory=inventory, service=service,
    )  # fmt: skip
