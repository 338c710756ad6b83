"""A policy and a metric that are registered in the process, and a run of FineTuner that uses them."""

from dataclasses import dataclass
from typing import ClassVar

import keras
import numpy as np
import pytest

import finetune
from finetune.config import entry_points, plugins
from tests.helpers.plugins import installer


@pytest.fixture(autouse=True)
def install(tmp_path, monkeypatch):
    yield installer(tmp_path, monkeypatch)
    entry_points.read.cache_clear()


def test_a_run_uses_what_decorators_register(tmp_path):
    @finetune.policy("large")
    @dataclass(frozen=True)
    class Large(finetune.Policy):
        """Train the weights with at least `parameters` scalars."""

        name: ClassVar[str] = "large"
        parameters: int

        def select(self, weights, stage_names, where):
            return finetune.with_head(weights, lambda weight: weight.parameters >= self.parameters)

    @finetune.metric("gap", direction="min", task="single_label")
    def gap(labels, probabilities):
        return 1 - probabilities[np.arange(len(labels)), labels].mean()

    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(2, name="mid")(keras.layers.Dense(8, name="low")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, name="out")(hidden))
    x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    data = (x, np.arange(20) % 2)
    freeze = {"policy": "large", "parameters": 20}
    phase = {"epochs": 1, "learning_rate": 0.01, "monitor": "gap", "freeze": freeze}
    tuner = finetune.FineTuner(
        model,
        {"phases": {"a": phase}},
        overrides=["metrics=[auroc]", f"features.dir={tmp_path}/features"],
        directory=tmp_path / "run",
        verbose=False,
    )
    record = tuner.fit(data, data, data)
    assert record.plugins == {"policies.large": __name__, "metrics.gap": __name__}
    assert record.directions == {"gap": "min"}
    # The kernel of `low` has 32 scalars; those of `mid` and the biases have fewer than 20.
    assert record.phases[0].weight_counts["trainable"]["parameters"] == 32 + 2 * 2 + 2
    logits = model.predict(x, verbose=0)
    odds = np.exp(logits)
    probabilities = odds / odds.sum(1, keepdims=True)
    expected = 1 - probabilities[np.arange(20), data[1]].mean()
    assert record.test["gap"] == pytest.approx(expected, rel=1e-4)
    assert record.phases[0].metrics["validation"]["gap"] == pytest.approx(expected, rel=1e-4)
    assert 0 <= record.test["auroc"] <= 1
    loaded = finetune.load(tmp_path / "run")
    assert loaded.evaluate(*data)["gap"] == pytest.approx(expected, rel=1e-4)
    del plugins._registered["metrics"]["gap"]
    with pytest.raises(
        finetune.ConfigError, match=r"Received: no gap of metrics, from .*Run the code"
    ):
        loaded.evaluate(*data)
