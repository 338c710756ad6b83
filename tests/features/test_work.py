"""The cost of a forward pass by stage equals arithmetic done by hand."""

import keras

from finetune.backbones.own import own_stages
from finetune.features.cut import task_graph
from finetune.features.work import stage_work
from finetune.freezing.inventory import take_inventory

RULE = {"stem": ["one"], "top": ["two"]}


def built(*layers):
    return keras.Sequential([keras.Input((8, 8, 3)), *layers])


def test_a_kernel_counts_once_for_each_position_of_its_output():
    model = built(
        keras.layers.Conv2D(4, 3, padding="same", name="one"),
        keras.layers.Conv2D(2, 1, strides=2, name="two"),
        keras.layers.Flatten(),
        keras.layers.Dense(5, name="out"),
    )
    inventory = take_inventory(model, own_stages(model, RULE))
    work = stage_work(inventory, task_graph(inventory))
    assert dict(work) == {
        "stem": 8 * 8 * (3 * 3 * 3 * 4),
        "top": 4 * 4 * (1 * 1 * 4 * 2),
        "head": 4 * 4 * 2 * 5,
    }
    assert list(work) == ["stem", "top", "head"]


def test_without_a_graph_each_weight_counts_once():
    model = built(
        keras.layers.Conv2D(4, 3, padding="same", name="one"),
        keras.layers.BatchNormalization(name="two"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(5, name="out"),
    )
    inventory = take_inventory(model, own_stages(model, RULE))
    assert dict(stage_work(inventory, None)) == {"stem": 108, "top": 0, "head": 20}


def test_a_table_that_is_looked_up_costs_nothing():
    inputs = keras.Input((6,), dtype="int32")
    hidden = keras.layers.Embedding(1000, 4, name="one")(inputs)
    hidden = keras.layers.Dense(3, name="two")(hidden)
    outputs = keras.layers.Dense(2, name="out")(keras.layers.GlobalAveragePooling1D()(hidden))
    model = keras.Model(inputs, outputs)
    inventory = take_inventory(model, own_stages(model, RULE))
    work = stage_work(inventory, task_graph(inventory))
    assert dict(work) == {"stem": 0, "top": 6 * 4 * 3, "head": 3 * 2}
