"""Models of the user's own through the public API."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import finetune
from finetune.backbones.own import own_stages
from finetune.errors import ConfigError

TWO_PHASES = {
    "phases": {
        "head": {"epochs": 2, "learning_rate": 1e-2, "freeze": {"policy": "depth", "unfreeze_depth": 0}},
        "top": {"epochs": 1, "learning_rate": 1e-3, "freeze": {"policy": "stages", "stages": ["b"]}},
    }
}  # fmt: skip


@keras.saving.register_keras_serializable("tests")
class Shifted(keras.layers.Layer):
    """Has a constant of its own that training must not touch, and a scale that may train."""

    def build(self, shape):
        self.shift = self.add_weight(
            shape=(shape[-1],), initializer="ones", trainable=False, name="shift"
        )
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, inputs):
        return inputs * self.scale + self.shift


def functional(last="linear", classes=3):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, activation="relu", name="a_dense")(inputs)
    x = Shifted(name="a_shift")(x)
    x = keras.layers.Dense(8, activation="relu", name="b_dense")(x)
    x = keras.layers.BatchNormalization(name="b_norm")(x)
    x = keras.layers.Dropout(0.2, name="b_drop")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, last, name="out")(x), name="mine")


def data(number=40, seed=0, classes=3):
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(number, 6)).astype("float32")
    return inputs, np.argmax(inputs[:, :classes], 1)


RULE = {"a": "a_.*", "b": ["b_dense", "b_norm"]}


def test_a_functional_model_with_a_custom_layer(tmp_path):
    model = functional()
    tuner = finetune.FineTuner(
        model, TWO_PHASES, stages=RULE, classes=["x", "y", "z"], directory=tmp_path / "run",
        overrides=["dataset.batch_size=8", "features.cache=always", f"features.dir={tmp_path}/f"],
        verbose=False,
    )  # fmt: skip
    before = {weight.path: np.array(weight) for weight in model.weights}
    record = tuner.fit(data(), data(16, 1), test=data(24, 2))
    assert record.status == "completed" and record.backbone.source == "own"
    # a: dense 6×8+8, scale 8 | shift 8. b: dense 8×8+8, norm 8+8 | statistics 8+8. head: 8×3+3.
    first, second = (phase.weight_counts for phase in record.phases)
    assert first["trainable"] == {"weights": 2, "parameters": 27}
    assert first["frozen"] == {"weights": 3 + 4, "parameters": 64 + 88}
    assert first["untrainable"] == {"weights": 3, "parameters": 24}
    assert second["trainable"] == {"weights": 2 + 4, "parameters": 27 + 88}
    after = {weight.path: np.array(weight) for weight in model.weights}
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    assert moved == {
        "out/kernel", "out/bias", "b_dense/kernel", "b_dense/bias", "b_norm/gamma", "b_norm/beta",
    }  # fmt: skip
    assert [phase.frozen_proof.weights_checked for phase in record.phases] == [10, 6]
    assert record.phases[0].features["cached"]
    written = json.loads((tmp_path / "run/run.json").read_text())
    assert written["dataset"]["splits"] == {"train": 40, "validation": 16, "test": 24}
    assert written["config"]["backbone"]["name"] == "mine"
    again = keras.saving.load_model(tmp_path / "run/model/model.keras")
    given, labels = data(24, 2)
    np.testing.assert_allclose(
        again.predict(given, verbose=0), model.predict(given, verbose=0), rtol=1e-5
    )
    accuracy = np.mean(np.argmax(again.predict(given, verbose=0), 1) == labels)
    assert record.test["accuracy"] == pytest.approx(accuracy)


def test_a_sequential_model_finds_its_stages(tmp_path, capsys):
    model = keras.Sequential(
        [
            keras.Input((6,)), keras.layers.Dense(4, name="one"),
            keras.layers.Dense(4, name="two"), keras.layers.Dense(3, "softmax", name="three"),
        ]
    )  # fmt: skip
    tuner = finetune.FineTuner(
        model, "progressive", directory=tmp_path / "run",
        overrides=["schedule.phases.head.epochs=1", "schedule.epochs_per_phase=1"],
    )  # fmt: skip
    tuner.inspect(data(), data(8))
    tuner.check(data(), data(8))
    assert not (tmp_path / "run").exists()
    batches = tf.data.Dataset.from_tensor_slices(data()).batch(16)
    record = tuner.fit(batches, data(8, 1))
    assert [phase.name for phase in record.phases] == ["head", "stage2", "stage1"]
    # Dense layers of 6×4+4, 4×4+4 and 4×3+3 parameters.
    trained = [phase.weight_counts["trainable"]["parameters"] for phase in record.phases]
    assert trained == [15, 15 + 20, 15 + 20 + 28]
    assert record.test == {}
    assert "no test split" in capsys.readouterr().out


def test_checking_leaves_the_weights_as_they_were(tmp_path):
    model = functional()
    before = model.get_weights()
    tuner = finetune.FineTuner(model, TWO_PHASES, stages=RULE, verbose=False)
    tuner.check(data(), data(8))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_several_labels_and_a_sigmoid(tmp_path):
    inputs, _ = data(48)
    labels = (inputs[:, :3] > 0).astype("int64")
    record = finetune.FineTuner(
        functional("sigmoid"), {"phases": {"all": {"epochs": 1, "learning_rate": 1e-2, "freeze": {"policy": "none"}}}},
        directory=tmp_path, verbose=False, stages=RULE,
    ).fit((inputs, labels), (inputs, labels), (inputs, labels))  # fmt: skip
    assert {"micro_f1", "mean_average_precision"} <= record.test.keys()


def test_inputs_may_be_a_dictionary(tmp_path):
    keras.utils.set_random_seed(0)
    left, right = keras.Input((6,), name="left"), keras.Input((2,), name="right")
    x = keras.layers.Dense(4, name="below")(keras.layers.Concatenate()([left, right]))
    model = keras.Model({"left": left, "right": right}, keras.layers.Dense(3)(x))
    inputs, labels = data()
    given = {"left": inputs, "right": inputs[:, :2]}
    record = finetune.FineTuner(
        model, overrides=["schedule.phases.head.epochs=1", "features.cache=always",
                          f"features.dir={tmp_path}/f"],
        directory=tmp_path / "run", verbose=False,
    ).fit((given, labels), (given, labels), (given, labels))  # fmt: skip
    assert record.phases[0].features["cached"]
    # The backbone is what comes before the last layer with weights: one stage, `below`.
    assert record.backbone.stages == [{"name": "stage1", "weights": 2, "parameters": 8 * 4 + 4}]


def nested():
    inner = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, name="p"),
                              keras.layers.Dense(4, name="q")], name="inner")  # fmt: skip
    return keras.Sequential([keras.Input((6,)), inner, keras.layers.Dense(3, name="r")])


def layers(found):
    return {stage.name: [layer.name for layer in stage.layers] for stage in found}


def test_stage_rules_reach_into_models_inside():
    assert layers(own_stages(nested())) == {"stage1": ["p"], "stage2": ["q"]}
    assert layers(own_stages(nested(), {"low": "p", "high": "q"})) == {"low": ["p"], "high": ["q"]}
    assert layers(own_stages(nested(), {"all": "inner"})) == {"all": ["inner"]}
    by_function = own_stages(nested(), lambda layer: {"p": "low", "q": "high"}.get(layer.name))
    assert layers(by_function) == {"low": ["p"], "high": ["q"]}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"a": "a_.*", "b": "nothing"}, r"stages\[b\] must match layers with weights.*nothing"),
        ({"a": "a_.*", "b": ["a_dense"]}, "layer a_dense in one stage. Received: a, b"),
        ({"a": ["a_dense", "a_dens"]}, "no layer a_dens"),
        ({"b": "b_drop"}, "no layer with weights"),
        (lambda layer: None, "a function that names none"),
    ],
)
def test_a_rule_that_fits_no_layer_is_refused(rule, message):
    with pytest.raises(ConfigError, match=message):
        finetune.FineTuner(functional(), stages=rule)


def wrong_output():
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(2), keras.layers.Dense(1)])


class Unsaveable(keras.layers.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def unsaveable():
    inputs = keras.Input((6,))
    x = Unsaveable(lambda values: values)(keras.layers.Dense(2)(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(x))


@pytest.mark.parametrize(
    ("make", "more", "message"),
    [
        (wrong_output, {}, r"at least 2 classes. Received: .*\(None, 1\)"),
        (lambda: functional("relu"), {}, "Received: relu in layer out"),
        (unsaveable, {}, "model must be one that Keras can save"),
        (functional, {"classes": ["x", "y"]}, "classes must be 3 different names"),
        (functional, {"overrides": ["backbone=resnet50"]}, "overrides must be of.*backbone=resnet50"),
        (functional, {"overrides": ["dataset.augment=light"]}, "dataset.augment=light"),
        (functional, {"schedule": "nothing"}, "schedule"),
        (functional, {"schedule": {"phases": {"a": {"epochs": 0}}}}, "phases.a.epochs must be"),
        (lambda: keras.Model(), {}, "functional or sequential"),
    ],
)  # fmt: skip
def test_a_model_or_setting_that_does_not_fit_is_refused(make, more, message):
    with pytest.raises(ConfigError, match=message):
        finetune.FineTuner(make(), **more)


ZEROS = np.zeros((4, 6), "float32")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((ZEROS, np.array([0, 1, 2, 3])), "labels 0..2.*from 0 to 3"),
        ((ZEROS, np.array([0, 1])), "as many inputs as labels.*4 inputs, 2 labels"),
        ((ZEROS, np.array([0.5, 1, 1, 0])), "labels 0..2"),
        ((ZEROS, np.zeros((4, 2), int)), r"the model has 3 outputs.*\(4, 2\)"),
        (ZEROS, "tuple .inputs, labels.*Received: ndarray"),
        (tf.data.Dataset.from_tensors((ZEROS, np.zeros(4, int))).repeat(), "must end"),
    ],
)
def test_data_that_do_not_fit_the_model_are_refused(train, message):
    with pytest.raises(ConfigError, match=message):
        finetune.FineTuner(functional(), stages=RULE).fit(train, data(8))


def test_labels_of_another_kind_than_the_outputs_are_refused():
    inputs, _ = data(8)
    many = (inputs, (inputs[:, :3] > 0).astype(int))
    with pytest.raises(ConfigError, match="probabilities of one label.*labels of several labels"):
        finetune.FineTuner(functional("softmax"), stages=RULE).fit(many, many)


def test_the_package_imports_no_keras_before_it_is_needed():
    assert set(finetune.__all__) == {"FineTuner", "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'Tuner'"):
        _ = finetune.Tuner


def test_the_example_of_the_docs_runs(tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[1] / "docs/own_model.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/own_model.md", "exec"), {})
    # low: 32×64+64; high: 64×64+64; out: 64×10+10.
    assert "{'weights': 4, 'parameters': 4810}" in capsys.readouterr().out
    assert (tmp_path / "outputs/mine/model/model.keras").is_file()
