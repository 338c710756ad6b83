"""Taking models apart, and where the frozen prefix ends."""

import keras
import numpy as np
import pytest

from finetune.features.cut import find_cut, find_linear_head
from finetune.features.flat_graph import flat_graph
from finetune.features.graph import Part
from finetune.features.structure import structure_sha256
from finetune.freezing.inventory import take_inventory
from finetune.freezing.plan import make_plan
from finetune.freezing.policies.bias_only import BiasOnly
from finetune.freezing.policies.depth import Depth
from finetune.freezing.policies.patterns import Patterns
from finetune.freezing.policies.stages import Stages
from finetune.schedule.phase import Phase
from tests.helpers.tiny_model import make_tiny


class Stage:
    def __init__(self, name, *layers):
        self.name, self.layers = name, layers


def cut_of(inventory, rule, batch_norm="inference", expand=lambda layer: False):
    graph = flat_graph(inventory.model, expand)
    phase = Phase("p", 1, 0.1, rule, batch_norm=batch_norm)
    plan = make_plan(phase, inventory.infos, inventory.stage_names, inventory.upkeep)
    return graph, find_cut(graph, inventory, plan)


def depth(number):
    return Depth(number)


def parts(graph, cut):
    above = set(range(len(graph.calls))) - set(cut.calls)
    return Part(graph, cut.calls, graph.inputs, cut.edges), Part(graph, above, cut.edges)


def test_nested_models_come_apart_and_compute_the_same(tiny):
    graph = flat_graph(tiny.model, lambda layer: False)
    names = [call.operation.name for call in graph.calls]
    assert names == [
        "s1_conv", "s1_bn", "s1_drop", "s2_conv", "s2_bn", "s2_constant", "pooler", "logits",
    ]  # fmt: skip
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    whole = Part(graph, range(len(graph.calls)), graph.inputs)
    np.testing.assert_array_equal(whole((images,)), tiny.model(images))


@pytest.mark.parametrize(("number", "name"), [(0, "pooler"), (1, "s1_drop"), (2, None)])
def test_the_cut_moves_down_with_the_unfreeze_depth(tiny, number, name):
    graph, cut = cut_of(tiny, depth(number))
    if name is None:
        assert cut is None
        return
    assert cut.name == name
    below, above = parts(graph, cut)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    crossing = below((images,), training=False)
    np.testing.assert_array_equal(above(crossing), tiny.model(images))
    assert {id(v) for v in below.weights} == {id(tiny.variables[path]) for path in cut.weights}
    head = find_linear_head(graph, cut)
    assert (head is not None) == (number == 0)


def test_a_frozen_part_above_a_trainable_one_is_not_below_the_cut(tiny):
    assert cut_of(tiny, Stages(("stage1",)))[1] is None
    assert cut_of(tiny, BiasOnly())[1] is None


def test_an_awake_batch_norm_ends_the_prefix():
    inventory = take_inventory(*make_tiny())
    train_gamma = Patterns(train=("s2_bn/gamma", "logits/.*"), freeze=(".*",))
    for mode in ("inference", "train"):
        _, cut = cut_of(inventory, train_gamma, mode)
        # s2_conv could be below, but its stage is active: what may be awake there is not assumed
        assert cut.name == "s2_conv"


def test_dropout_of_an_active_stage_is_not_below_the_cut():
    inventory = take_inventory(*make_tiny(dropout=0.5))
    rule = Patterns(train=("s1_bn/.*", "s2_.*", "logits/.*"), freeze=(".*",))
    _, cut = cut_of(inventory, rule)
    assert cut.name == "s1_conv"


def residual():
    inputs = keras.Input((6, 6, 2))
    a = keras.layers.Conv2D(4, 3, padding="same", name="a")(inputs)
    shortcut = keras.layers.Conv2D(4, 1, name="shortcut")(inputs)
    b = keras.layers.Conv2D(4, 3, padding="same", name="b")(a)
    x = keras.layers.Add(name="join")([b, shortcut, a])
    backbone = keras.Model(inputs, x, name="backbone")
    outer = keras.Input((6, 6, 2))
    y = keras.layers.GlobalAveragePooling2D()(backbone(outer))
    model = keras.Model(outer, keras.layers.Dense(3, name="logits")(y))
    get = backbone.get_layer
    stages = (Stage("stage1", get("a"), get("shortcut")), Stage("stage2", get("b"), get("join")))
    return take_inventory(model, stages)


def test_every_tensor_of_a_residual_join_crosses():
    inventory = residual()
    graph, cut = cut_of(inventory, depth(1))
    assert cut.name in ("a + shortcut", "shortcut + a")
    below, above = parts(graph, cut)
    images = np.random.default_rng(0).normal(size=(4, 6, 6, 2)).astype("float32")
    np.testing.assert_allclose(above(below((images,))), inventory.model(images), rtol=1e-6)


def test_padding_stays_above_the_cut_where_less_then_crosses():
    inputs = keras.Input((6, 6, 2))
    a = keras.layers.Conv2D(4, 3, padding="same", name="a")(inputs)
    padded = keras.layers.ZeroPadding2D(1, name="pad")(a)
    b = keras.layers.Conv2D(4, 3, name="b")(padded)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add(name="join")([b, a]))
    model = keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))
    stages = (Stage("stage1", model.get_layer("a")), Stage("stage2", model.get_layer("b")))
    _, cut = cut_of(take_inventory(model, stages), depth(1))
    assert cut.name == "a"  # 144 numbers a sample; with the padding 144 + 256


def test_masks_and_inputs_cross_with_the_features():
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    scale = keras.Input((1,), name="scale")
    x = keras.layers.Embedding(9, 4, mask_zero=True, name="embed")(tokens)
    y = keras.layers.LSTM(3, name="lstm")(x)
    y = keras.layers.Multiply(name="times")([y, scale])
    model = keras.Model([tokens, scale], keras.layers.Dense(2, name="logits")(y))
    get = model.get_layer
    inventory = take_inventory(
        model, (Stage("stage1", get("embed")), Stage("stage2", get("lstm"), get("times")))
    )
    graph, cut = cut_of(inventory, depth(1))
    assert cut.name == "embed + not_equal + input"
    below, above = parts(graph, cut)
    given = (np.array([[1, 2, 0, 0, 0], [3, 4, 5, 0, 0]]), np.array([[1.0], [2.0]], "float32"))
    crossing = [tensor.numpy() for tensor in below(given)]  # as from the store
    assert crossing[1].tolist() == [[True] * 2 + [False] * 3, [True] * 3 + [False] * 2]
    np.testing.assert_allclose(above(tuple(crossing)), model(given), rtol=1e-6)
    unmasked = above((crossing[0], np.ones((2, 5), bool), crossing[2]))
    assert not np.allclose(unmasked, model(given))


class Encoder(keras.layers.Layer):
    """Holds blocks of two stages in one layer."""

    def build(self, shape):
        self.blocks = [keras.layers.Dense(4, name=f"block{i}") for i in (1, 2)]
        for block in self.blocks:
            block.build(shape)
        self.built = True

    def call(self, inputs):
        x = inputs
        for block in self.blocks:
            x = block(x) + inputs
        return x


@pytest.mark.parametrize("traceable", [True, False])
def test_a_nested_encoder_is_traced_or_stays_whole(traceable):
    class Opaque(Encoder):
        def call(self, inputs):
            if not traceable:
                float(inputs[0, 0])  # asks for a value
            return super().call(inputs)

    inputs = keras.Input((4,))
    x = Opaque(name="encoder")(inputs) if traceable else None
    if x is None:
        layer = Opaque(name="encoder")
        layer.compute_output_spec = lambda inputs: keras.KerasTensor(inputs.shape, inputs.dtype)
        x = layer(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))
    encoder = model.get_layer("encoder")
    stages = [Stage(f"stage{i + 1}", block) for i, block in enumerate(encoder.blocks)]
    inventory = take_inventory(model, stages)
    graph, cut = cut_of(inventory, depth(1), expand=lambda layer: layer is encoder)
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    if not traceable:
        assert [graph.calls[index].operation for index in graph.unfixed] == [encoder]
        assert list(graph.unfixed.values()) == ["TypeError while it was traced"] and cut is None
        return
    assert "block1" in [call.operation.name for call in graph.calls]
    assert len(cut.edges) == 2 and cut.weights == ("encoder/block1/kernel", "encoder/block1/bias")
    below, above = parts(graph, cut)
    np.testing.assert_allclose(above(below((rows,))), model(rows), rtol=1e-6)


def test_the_digest_of_a_graph_ignores_names_and_sees_settings():
    def digest(strides=1, prefix="", slice_from=0):
        inputs = keras.Input((6, 6, 2))
        x = keras.layers.Conv2D(4, 3, strides, name=f"{prefix}conv")(inputs)
        x = x[:, slice_from:]
        y = keras.layers.GlobalAveragePooling2D()(x)
        model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(y))
        stage = Stage("stage1", model.get_layer(f"{prefix}conv"))
        graph, cut = cut_of(take_inventory(model, (stage,)), depth(0))
        return structure_sha256(graph, cut)

    assert digest() == digest(prefix="other_")
    assert len({digest(), digest(strides=2), digest(slice_from=1)}) == 3


def test_the_digest_of_a_graph_sees_every_value_of_a_constant():
    def digest(middle):
        values = np.zeros((1, 2000), "float32")
        values[0, 1000] = middle  # NumPy leaves it out of a repr
        inputs = keras.Input((2000,))
        x = keras.layers.Dense(2000, name="frozen")(inputs)
        x = keras.ops.multiply(x, values)
        model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))
        stage = Stage("stage1", model.get_layer("frozen"))
        graph, cut = cut_of(take_inventory(model, (stage,)), depth(0))
        assert len(cut.calls) == 2
        return structure_sha256(graph, cut)

    assert digest(1.0) == digest(1.0) != digest(2.0)


def test_a_subclassed_model_cannot_be_taken_apart():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    assert flat_graph(Own(), lambda layer: False) is None


class Positions(keras.layers.Layer):
    """Makes numbers of a shape alone, as rotary positions are."""

    def call(self, inputs):
        return keras.ops.arange(inputs.shape[1], dtype="float32")


def test_what_is_made_of_shapes_alone_does_not_cross():
    inputs = keras.Input((6,))
    positions = Positions()(inputs)
    x = keras.layers.Dense(6, name="a")(inputs) + positions
    x = keras.layers.Dense(6, name="b")(x) + positions
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))
    stages = (Stage("stage1", model.get_layer("a")), Stage("stage2", model.get_layer("b")))
    inventory = take_inventory(model, stages)
    graph, cut = cut_of(inventory, depth(1))
    assert len(graph.constants) == 1 and len(cut.edges) == 1
    assert cut.weights == ("a/kernel", "a/bias")
    below, above = parts(graph, cut)
    rows = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    np.testing.assert_allclose(above(below((rows,))), model(rows), rtol=1e-6)


def test_there_is_no_cut_where_something_of_the_whole_batch_crosses():
    inputs = keras.Input((6,))
    a = keras.layers.Dense(6, name="a")(inputs)
    mean = keras.ops.mean(a)
    b = keras.layers.Dense(6, name="b")(a * mean)
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(b) * mean)
    stages = (Stage("stage1", model.get_layer("a"), model.get_layer("b")),)
    assert cut_of(take_inventory(model, stages), depth(0))[1] is None


def test_random_numbers_are_no_constant():
    class Noise(keras.layers.Layer):
        def build(self, shape):
            self.seeds = keras.random.SeedGenerator(0)

        def call(self, inputs):
            return keras.random.uniform((inputs.shape[1],), seed=self.seeds)

    inputs = keras.Input((6,))
    x = keras.layers.Dense(6, name="a")(inputs) + Noise(name="noise")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))
    graph, cut = cut_of(take_inventory(model, (Stage("stage1", model.get_layer("a")),)), depth(0))
    assert not graph.constants and cut.name in ("a + input", "input + a")
