"""What `finetune.keras_internals` relies on: a new release of Keras that changes it fails here."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

from finetune import keras_internals as internals

PACKAGE = Path(internals.__file__).parent


@pytest.fixture(scope="module")
def model():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="low")], name="inner")
    inputs = keras.Input((4,), name="x")
    normalized = keras.layers.BatchNormalization(name="norm")(inner(inputs))
    outputs = keras.layers.Dense(2, name="head")(normalized)
    return keras.Model({"x": inputs}, [outputs], name="outer")


def test_layers_are_found_once_parents_first(model):
    names = [layer.name for layer in internals.flatten(model)]
    assert names[0] == "outer" and names.index("inner") < names.index("low")
    assert len(names) == len(set(names))
    assert model.get_layer("inner").layers[0] in internals.direct_layers(model.get_layer("inner"))
    assert internals.direct_layers(model.get_layer("head")) == []


def test_variables_keep_the_kind_that_their_class_gave_them(model):
    norm = model.get_layer("norm")
    norm.trainable = False
    try:
        assert [each.name for each in internals.made_trainable(norm)] == ["gamma", "beta"]
        kept = [each.name for each in internals.made_untrainable(norm)]
        assert kept == ["moving_mean", "moving_variance"]
        assert len(internals.direct_weights(norm)) == 4
    finally:
        norm.trainable = True


def test_the_kernel_of_a_layer_with_lora_is_its_variable():
    layer = keras.layers.Dense(2)
    layer.build((None, 4))
    layer.enable_lora(1)
    kernel = internals.kernel_of(layer)
    assert isinstance(kernel, keras.Variable) and kernel is not layer.kernel


def test_the_graph_of_a_model(model):
    inner = model.get_layer("inner")
    assert internals.functional_of(model) is model
    assert internals.functional_of(inner) is internals.graph_of(inner)
    assert internals.functional_of(model.get_layer("head")) is None
    called = [node.operation.name for node in internals.nodes_of(model) if not node.is_input]
    assert called == ["inner", "norm", "head"]
    assert list(internals.input_structure(model)) == ["x"]
    assert isinstance(internals.output_structure(model), list)
    assert internals.maker_of(model.outputs[0]).name == "head"


def test_a_model_with_a_call_of_its_own_is_not_functional():
    class Own(keras.Model):
        def call(self, inputs, training=None):
            return super().call(inputs, training=training) * 2

    inputs = keras.Input((4,))
    assert internals.functional_of(Own(inputs, keras.layers.Dense(2)(inputs))) is None


def test_the_mode_of_a_call_and_the_losses_that_it_adds():
    seen = []

    class Asked(keras.layers.Layer):
        def call(self, inputs, training=None):
            seen.append(internals.call_context(self).get_value("training"))
            self.add_loss(keras.ops.sum(inputs))
            return inputs

    layer = Asked()
    layer(np.ones((2, 3), "float32"), training=True)
    assert seen == [True]
    assert internals.takes_training_mode(layer)
    assert not internals.takes_training_mode(keras.layers.Flatten())
    assert internals.added_losses(layer) == 1
    assert internals.added_losses(layer) == 0


def test_no_other_module_uses_these_members():
    source = Path(internals.__file__).read_text(encoding="utf-8")
    members = set(re.findall(r"(?<=[\w)])\.(_[a-z]\w+)", source))
    assert {"_flatten_layers", "_nodes_by_depth"} <= members
    # `self._layers` is an attribute of the package's own classes.
    private = re.compile(rf"(?<!self)\.({'|'.join(sorted(members))})\b|keras\.src")
    found = [
        f"{path.relative_to(PACKAGE)}: {match.group()}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "keras_internals.py"
        for match in private.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []
