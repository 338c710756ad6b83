"""Models of the user's own through the public API."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from huggingface_hub import ModelCard

import finetune
from finetune.backbones.own import own_stages
from finetune.errors import ConfigError
from tests.helpers.interruptions import stopping_at
from tests.helpers.own_models import RULE, TWO_PHASES, functional, vectors


def test_a_functional_model_with_a_custom_layer(tmp_path):
    model = functional()
    tuner = finetune.FineTuner(
        model, TWO_PHASES, stages=RULE, classes=["x", "y", "z"], directory=tmp_path / "run",
        overrides=["dataset.batch_size=8", "features.cache=always", f"features.dir={tmp_path}/f"],
        verbose=False,
    )  # fmt: skip
    before = {weight.path: np.array(weight) for weight in model.weights}
    record = tuner.fit(vectors(), vectors(16, 1), test=vectors(24, 2))
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
    given, labels = vectors(24, 2)
    np.testing.assert_allclose(
        again.predict(given, verbose=0), model.predict(given, verbose=0), rtol=1e-5
    )
    accuracy = np.mean(np.argmax(again.predict(given, verbose=0), 1) == labels)
    assert record.test["accuracy"] == pytest.approx(accuracy)
    card = ModelCard.load(tmp_path / "run/model/README.md")
    assert (card.data.library_name, card.data.license) == ("keras", "other")
    assert "# finetune.FineTuner(model" in card.text


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
    tuner.inspect(vectors(), vectors(8))
    assert not (tmp_path / "run").exists()
    batches = tf.data.Dataset.from_tensor_slices(vectors()).batch(16)
    record = tuner.fit(batches, vectors(8, 1))
    assert [phase.name for phase in record.phases] == ["head", "stage2", "stage1"]
    # Dense layers of 6×4+4, 4×4+4 and 4×3+3 parameters.
    trained = [phase.weight_counts["trainable"]["parameters"] for phase in record.phases]
    assert trained == [15, 15 + 20, 15 + 20 + 28]
    assert record.test == {}
    assert "no test split" in capsys.readouterr().out


def test_several_labels_and_a_sigmoid(tmp_path):
    inputs, _ = vectors(48)
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
    inputs, labels = vectors()
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
    return {
        stage.name: [
            layer.name for layer in stage.layers if not isinstance(layer, keras.layers.InputLayer)
        ]
        for stage in found
    }


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
        (lambda layer: None, "a function that returns none"),
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
        (lambda: functional("relu"), {}, "Received: relu in out. End it with"),
        (unsaveable, {}, "model must be one that Keras can save"),
        (functional, {"classes": ["x", "y"]}, "classes must be 3 different names"),
        (functional, {"overrides": ["backbone=resnet50"]}, "overrides must be of.*backbone=resnet50"),
        (functional, {"overrides": ["experiment=resnet_probe"]}, "overrides must be of.*experiment"),
        (functional, {"overrides": ["hydra.run.dir=x"]}, "overrides must be of.*hydra.run.dir=x"),
        (functional, {"overrides": ["lr=1"]}, "Did you mean schedule.phases.head.learning_rate=1"),
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
        ((ZEROS, np.zeros((4, 2), int)), r"for the 3 outputs of the model.*\(4, 2\)"),
        (ZEROS, "tuple .inputs, labels.*Received: ndarray"),
        (tf.data.Dataset.from_tensors((ZEROS, np.zeros(4, int))).repeat(), "must be finite"),
    ],
)
def test_data_that_do_not_fit_the_model_are_refused(train, message):
    with pytest.raises(ConfigError, match=message):
        finetune.FineTuner(functional(), stages=RULE).fit(train, vectors(8))


def test_labels_of_another_kind_than_the_outputs_are_refused():
    inputs, _ = vectors(8)
    many = (inputs, (inputs[:, :3] > 0).astype(int))
    with pytest.raises(ConfigError, match="probabilities of one label.*labels of several labels"):
        finetune.FineTuner(functional("softmax"), stages=RULE).fit(many, many)


def test_the_package_imports_no_keras_before_it_is_needed():
    script = "import sys, finetune; sys.exit('keras' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Tuner'"):
        _ = finetune.Tuner


def test_the_example_of_the_docs_runs(tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[2] / "docs/own_model.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/own_model.md", "exec"), {})
    # low: 32×64+64; high: 64×64+64; out: 64×10+10.
    assert "{'weights': 4, 'parameters': 4810}" in capsys.readouterr().out
    assert (tmp_path / "outputs/mine/model/model.keras").is_file()


def dense(units, name, **more):
    return keras.layers.Dense(units, name=name, **more)


def split_in_two(nested_head):
    """A backbone and a head that are models; as a functional or sequential whole."""
    body_in, head_in = keras.Input((6,)), keras.Input((4,))
    body = keras.Model(body_in, dense(4, "b2")(dense(5, "b1")(body_in)), name="body")
    head = keras.Model(head_in, dense(3, "h2")(dense(4, "h1")(head_in)), name="head_model")
    if nested_head == "sequential":
        return keras.Sequential([keras.Input((6,)), body, head])
    inputs = keras.Input((6,))
    return keras.Model(inputs, head(body(inputs)))


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_a_model_that_is_the_head_is_not_taken_for_the_backbone(kind):
    assert layers(own_stages(split_in_two(kind))) == {"stage1": ["b1"], "stage2": ["b2"]}
    inputs = keras.Input((6,))
    head = keras.Sequential([keras.Input((4,)), dense(3, "h1"), dense(3, "h2")], name="hd")
    model = keras.Model(inputs, head(dense(4, "d2")(dense(5, "d1")(inputs))))
    assert layers(own_stages(model)) == {"stage1": ["d1"], "stage2": ["d2"]}


def test_layers_after_the_model_inside_are_the_head():
    inner = keras.Sequential([keras.Input((6,)), dense(4, "p")], name="inner")
    model = keras.Sequential([keras.Input((6,)), inner, dense(4, "mid"), dense(3, "out")])
    assert layers(own_stages(model)) == {"stage1": ["p"]}


def test_where_no_stage_is_found_one_must_be_given():
    inputs = keras.Input((6,))
    branches = [dense(3, name)(inputs) for name in ("f", "g")]
    with pytest.raises(ConfigError, match="stages must be given.*no chain"):
        own_stages(keras.Model(inputs, keras.layers.Add()(branches)))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"head": "a_.*"}, "other than head"),
        ({"b": ["b_dense"], "a": "a_.*"}, "order from input to output.*The order is a, b"),
        (lambda layer: 1, "names of type str"),
        ({"a": 3}, r"stages\[a\] must be a regular expression or a list"),
        ({"a": "a_("}, r"stages\[a\] must be a regular expression. Received: a_\("),
        ("a_.*", "a mapping from names to layers"),
    ],
)
def test_a_rule_of_the_wrong_kind_is_refused(rule, message):
    with pytest.raises(ConfigError, match=message):
        own_stages(functional(), rule)


def ending(*last):
    inputs = x = keras.Input((6,))
    for layer in (dense(4, "below"), dense(3, "out"), *last):
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    "last",
    [
        [keras.ops.softmax], [keras.layers.Softmax()], [keras.layers.Activation("softmax")],
        [keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, activation="softmax")])],
    ],
)  # fmt: skip
def test_probabilities_are_known_wherever_they_are_made(tmp_path, last):
    model, (inputs, labels) = ending(*last), vectors(24)
    record = finetune.FineTuner(
        model, {"phases": {"all": {"epochs": 1, "learning_rate": 0.01, "freeze": {"policy": "none"}}}},
        stages={"a": "below"}, directory=tmp_path, verbose=False,
    ).fit((inputs, labels), (inputs, labels), (inputs, labels))  # fmt: skip
    given = model.predict(inputs, verbose=0)
    expected = -np.log(given[np.arange(24), labels]).mean()
    assert record.test["loss"] == pytest.approx(expected, rel=1e-4)


def test_an_end_that_is_neither_logits_nor_probabilities_is_refused():
    with pytest.raises(ConfigError, match="Received: abs"):
        finetune.FineTuner(ending(keras.ops.abs))
    with pytest.raises(ConfigError, match="no Lambda"):
        finetune.FineTuner(ending(keras.layers.Lambda(lambda x: x)))


@pytest.mark.parametrize("verb", ["inspect", "check", "fit"])
def test_flags_layers_and_the_process_are_given_back(tmp_path, verb):
    model = functional()
    model.get_layer("a_dense").trainable = False
    before = [layer.trainable for layer in model.layers]
    trainable = [weight.path for weight in model.trainable_weights]
    weights = model.get_weights()
    directory = tmp_path / "run"
    keras.config.set_dtype_policy("mixed_bfloat16")
    np.random.seed(5)
    try:
        tuner = finetune.FineTuner(
            model, TWO_PHASES, stages=RULE, directory=directory, verbose=False
        )
        getattr(tuner, verb)(vectors(), vectors(8))
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    drawn = np.random.random()
    np.random.seed(5)
    assert drawn == np.random.random()
    assert [layer.trainable for layer in model.layers] == before
    assert [weight.path for weight in model.trainable_weights] == trainable
    assert not any("call" in vars(layer) for layer in model._flatten_layers())
    same = [np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True)]
    if verb == "fit":
        record = json.loads((directory / "run.json").read_text())
        assert record["device"]["precision"] == "float32"
    else:
        assert all(same) and not directory.exists()


def test_a_changed_layer_is_not_given_the_features_of_the_old_one(tmp_path):
    def train(double, run):
        class Own(keras.layers.Layer):
            def call(self, inputs):
                return inputs * 2 if double else inputs + 1

        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,))
        x = Own(name="own")(dense(4, "below")(inputs))
        return finetune.FineTuner(
            keras.Model(inputs, dense(3, "out")(x)), stages={"low": ["below", "own"]},
            overrides=["schedule.phases.head.epochs=1", "features.cache=always",
                       f"features.dir={tmp_path}/f"],
            directory=tmp_path / run, verbose=False,
        ).fit(vectors(), vectors(8)).phases[0].features["samples_extracted"]  # fmt: skip

    assert [train(False, "a"), train(False, "b"), train(True, "c")] == [48, 0, 48]


def test_names_of_classes_are_labels_too(tmp_path):
    inputs, labels = vectors(30)
    names = np.array(["x", "y", "z"])
    shared = {"stages": RULE, "classes": ["x", "y", "z"], "verbose": False}
    schedule = {
        "phases": {"all": {"epochs": 1, "learning_rate": 0.01, "freeze": {"policy": "none"}}}
    }
    losses = [
        finetune.FineTuner(functional(), schedule, directory=tmp_path / str(i), **shared)
        .fit((inputs, given), (inputs, given)).phases[0].metrics["validation"]["loss"]
        for i, given in enumerate((labels, names[labels]))
    ]  # fmt: skip
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (tf.data.Dataset.from_tensor_slices((ZEROS, [0, 1, 2, 0], [1.0, 1, 1, 1])).batch(2), None,
         "elements .inputs, labels.. Received: 3 values"),
        (tf.data.Dataset.from_tensor_slices((ZEROS, [0] * 4)).take(0).batch(2), None, "empty"),
        (tf.data.Dataset.from_tensor_slices({"x": ZEROS}), None, "elements .inputs, labels.*dict"),
        ((ZEROS[:, :5], [0] * 4), None, r"numbers of shape \('n', 6\).*\(4, 5\)"),
        ((ZEROS.astype(str), [0] * 4), None, "train must be numbers"),
        (([[1.0], [1.0, 2.0]], [0, 0]), None, "train must be numbers"),
        ((ZEROS * np.nan, [0] * 4), None, "NaN or infinity in 4 rows"),
        ((ZEROS, ["a", "b", "c", "d"]), None, "train labels must be a name in classes"),
        ((ZEROS, np.zeros(4, complex)), None, "labels 0..2.*complex128"),
        (((ZEROS, [0] * 4)), None, "validation must be a tuple.*Received: None"),
        ((ZEROS, [0] * 4), (ZEROS, np.zeros((4, 3), int)), "of one kind in all splits"),
    ],
)  # fmt: skip
def test_data_of_the_wrong_kind_are_refused_before_training(tmp_path, train, validation, message):
    tuner = finetune.FineTuner(functional(), stages=RULE, directory=tmp_path / "run")
    with pytest.raises(ConfigError, match=message):
        tuner.fit(train, validation)
    assert not (tmp_path / "run").exists()


def test_a_dataset_of_single_pairs_and_a_list_of_inputs_are_read(tmp_path):
    inputs, labels = vectors(20)
    single = tf.data.Dataset.from_tensor_slices((inputs, labels))
    record = finetune.FineTuner(
        functional(),
        stages=RULE,
        directory=tmp_path / "single",
        verbose=False,
        overrides=["schedule.phases.head.epochs=1"],
    ).fit(single, single)
    assert record.dataset.splits == {"train": 20, "validation": 20}
    left, right = keras.Input((6,)), keras.Input((2,))
    x = dense(4, "below")(keras.layers.Concatenate()([left, right]))
    model = keras.Model([left, right], dense(3, "out")(x))
    given = [inputs, inputs[:, :2].tolist()], labels
    record = finetune.FineTuner(
        model, overrides=["schedule.phases.head.epochs=1", "features.cache=always",
                          f"features.dir={tmp_path}/f"],
        directory=tmp_path / "list", verbose=False,
    ).fit(given, given, given)  # fmt: skip
    assert record.phases[0].features["cached"] and record.test


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"overrides": "seed=3"}, r"overrides must be a list.*\['seed=3'\]"),
        ({"overrides": ["seedy=3"]}, "Received: seedy. .* Did you mean seed[?]"),
        ({"overrides": ["runtime.precision=mixed_bfloat16"]}, "Received: runtime.precision"),
        ({"schedule": TWO_PHASES, "overrides": ["schedule.phases.head.epochs=4"]},
         "must not change a schedule that is passed"),
        ({"schedule": None}, "schedule must be the name of a config or a mapping"),
        ({"classes": [1, 2, 3]}, "3 different names"),
        ({"model": "x"}, "model must be a keras.Model. Received: str"),
    ],
)  # fmt: skip
def test_settings_of_the_wrong_kind_are_refused(more, message):
    with pytest.raises(ConfigError, match=message):
        finetune.FineTuner(**{"model": functional(), **more})


def test_a_fit_that_was_killed_resumes_with_a_newly_built_model(tmp_path):
    def tuner(name, model):
        overrides = ["dataset.batch_size=8", "features.cache=never"]
        return finetune.FineTuner(
            model, TWO_PHASES, stages=RULE, overrides=overrides, directory=tmp_path / name,
            verbose=False,
        )  # fmt: skip

    whole = functional()
    tuner("whole", whole).fit(vectors(), vectors(16, 1))

    # The second epoch of five steps each.
    with stopping_at(7), pytest.raises(KeyboardInterrupt):
        tuner("stopped", functional()).fit(vectors(), vectors(16, 1))
    with pytest.raises(ConfigError, match="directory must be a directory without a run"):
        tuner("stopped", functional()).fit(vectors(), vectors(16, 1))
    with pytest.raises(ConfigError, match="dataset.fingerprint was"):
        tuner("stopped", functional()).fit(vectors(seed=5), vectors(16, 1), resume=True)
    other = shutil.copytree(tmp_path / "stopped", tmp_path / "other")
    changed = tuner("other", functional()).fit(
        vectors(seed=5), vectors(16, 1), resume=True, allow_changed=True
    )
    assert changed.status == "completed" and not (other / ".hydra").exists()
    again = functional()
    again.set_weights([weight * 0 for weight in again.get_weights()])  # the checkpoint has them
    record = tuner("stopped", again).fit(vectors(), vectors(16, 1), resume=True)
    assert record.resumed == [{"phase": 0, "epoch": 1, "step": 2}]
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ConfigError, match="whose run is completed"):
        tuner("stopped", again).fit(vectors(), vectors(16, 1), resume=True)


def test_rows_in_two_splits_are_told_and_so_is_what_was_trained_on(tmp_path, caplog):
    train, validation = vectors(40), vectors(20, seed=1)
    validation[0][:5] = train[0][:5]
    tuner = finetune.FineTuner(functional(), directory=tmp_path / "run", verbose=False)
    record = tuner.fit(train, validation, test=vectors(20, seed=2))
    assert record.dataset.repeated == {"train and validation": 5}
    assert "5 samples occur in both train and validation" in caplog.text
    caplog.clear()
    loaded = finetune.load(tmp_path / "run")
    loaded.evaluate(*vectors(20, seed=2))
    assert caplog.text == ""
    loaded.evaluate(*validation)
    assert "the model was trained on 5 of the 20 examples" in caplog.text


def test_names_are_one_in_whatever_form_they_are_stored(tmp_path):
    inputs, labels = vectors(30)
    names = np.asarray(["caf\xe9", "b", "c"])
    tuner = finetune.FineTuner(functional(), classes=names.tolist(), directory=tmp_path / "run")
    given = np.asarray(["cafe\u0301 ", " b", "c"])[labels]
    record = tuner.fit((inputs, given), (inputs, names[labels]))
    assert record.dataset.repeated == {"train and validation": 30}
    with pytest.raises(ConfigError, match="classes must be 3 different names"):
        finetune.FineTuner(functional(), classes=["caf\xe9", "cafe\u0301", "c"])
