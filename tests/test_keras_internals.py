"""What `finetune.keras_internals` relies on: a new release of a library that lacks it fails here."""

import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins

from finetune import keras_internals as internals
from tests.helpers.backbones import make_backbone, small_backbone


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
        assert [variable.name for variable in internals.made_trainable(norm)] == ["gamma", "beta"]
        kept = [variable.name for variable in internals.made_untrainable(norm)]
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


def test_the_kinds_of_models_operations_and_layers(model):
    assert internals.is_functional(model) and internals.has_graph(model)
    inner = model.get_layer("inner")
    assert not internals.is_functional(inner) and internals.has_graph(inner)
    assert not internals.has_graph(model.get_layer("head"))
    again = internals.new_functional(model.inputs, model.outputs)
    assert internals.is_functional(again) and again.inputs[0] is model.inputs[0]
    assert internals.is_image_preprocessing(keras.layers.RandomFlip())
    assert internals.is_image_preprocessing(keras.layers.Resizing(2, 2))
    assert not internals.is_image_preprocessing(keras.layers.Rescaling(2.0))
    ids = keras.Input((3,), dtype="int32")
    assert internals.is_not_equal(internals.maker_of(keras.ops.not_equal(ids, 0)))
    assert not internals.is_not_equal(internals.maker_of(keras.ops.equal(ids, 0)))


def test_assignments_are_seen_inside_of_the_block_only():
    first, second = keras.Variable([1.0]), keras.Variable([1.0])
    with internals.assignments() as assigned:
        first.assign([2.0])
    second.assign([3.0])
    assert assigned == {id(first)}
    assert first.numpy() == 2.0 and second.numpy() == 3.0


def test_the_rate_of_an_optimizer_is_its_variable():
    optimizer = keras.optimizers.SGD(0.5)
    rate = internals.rate_variable(optimizer)
    assert any(variable is rate for variable in optimizer.variables)
    assert float(np.asarray(rate)) == 0.5
    optimizer.learning_rate = 0.25
    assert float(np.asarray(rate)) == 0.25
    joined = keras.optimizers.MultiOptimizer(lambda variable: optimizer)
    assert any(variable is internals.rate_variable(joined) for variable in joined.variables)


def test_a_preset_is_read_by_its_loader(tmp_path):
    backbone = small_backbone("resnet")
    backbone.save_to_preset(str(tmp_path))
    loader = internals.preset_loader(str(tmp_path))
    other = make_backbone("resnet")
    for variable in other.trainable_weights:
        variable.assign(keras.ops.zeros_like(variable))
    with internals.assignments() as assigned:
        internals.load_preset_weights(loader, other)
    assert {id(variable) for variable in other.weights} <= assigned
    for mine, theirs in zip(backbone.weights, other.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))


def test_determinism_is_turned_on_and_off():
    before = internals.is_op_deterministic()
    for wanted in (True, False, before):
        internals.set_op_determinism(wanted)
        assert internals.is_op_deterministic() is wanted


def test_ops_say_whether_they_are_stateful():
    assert internals.is_stateful_op("RandomUniform")
    assert not internals.is_stateful_op("MatMul")
    assert not internals.is_stateful_op("NoSuchOp")


def test_the_gradient_of_a_traced_call_is_found_and_forgotten():
    before = internals.custom_gradients()

    @tf.function
    def traced(x):
        return tf.nn.silu(x)

    traced(tf.constant(1.0))
    made = internals.custom_gradients() - before
    assert made
    internals.forget_gradients(made)
    assert internals.custom_gradients() == before
    assert float(traced(tf.constant(0.0))) == 0.0


def test_tables_and_variables_can_be_tracked():
    keys = tf.lookup.KeyValueTensorInitializer([1], [2])
    assert internals.is_trackable(tf.lookup.StaticHashTable(keys, 0))
    assert internals.is_trackable(tf.Variable(1.0))
    assert not internals.is_trackable("text")


def test_hydra_reads_files_by_the_class_that_replaces_its_own(tmp_path):
    own = internals.hydra_file_source()
    (tmp_path / "mine.yaml").write_text("# @package _global_\na: 1\n")
    source = own("provider", f"file://{tmp_path}")
    assert internals.config_file_name(source, "mine") == "mine.yaml"
    assert source.load_config("mine").config.a == 1
    Plugins.instance()  # registers Hydra's sources
    registered = SourcesRegistry.instance().types["file"]
    derived = type("Derived", (own,), {})
    try:
        internals.replace_hydra_file_source(derived)
        assert SourcesRegistry.instance().resolve("file") is derived
    finally:
        internals.replace_hydra_file_source(registered)
    assert internals.config_header("# @package _global_\na: 1\n") == {"package": "_global_"}
    assert internals.config_header("a: 1\n") == {"package": None}


def test_a_sweep_is_split_into_jobs_as_hydra_does_it():
    parsed = OverridesParser.create().parse_overrides(["a=1,2", "b=3", "c=x,y"])
    expected = [["a=1", "b=3", "c=x"], ["a=1", "b=3", "c=y"], ["a=2", "b=3", "c=x"]]
    assert list(internals.hydra_jobs(parsed)) == [*expected, ["a=2", "b=3", "c=y"]]


def test_omegaconf_reads_yaml_with_its_own_loader():
    loader = internals.omegaconf_loader()
    assert yaml.load("a: 1e3", loader) == {"a": 1000.0}  # PyYAML alone reads a text


def test_every_function_of_the_module_is_tested_here():
    functions = [name for name, value in vars(internals).items() if is_defined_there(value)]
    tested = set(re.findall(r"internals\.(\w+)\(", Path(__file__).read_text(encoding="utf-8")))
    assert len(functions) > 30
    assert set(functions) <= tested


def is_defined_there(value):
    return inspect.isfunction(value) and value.__module__ == internals.__name__
