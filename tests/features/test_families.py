"""Cuts of every KerasHub family at each stage: the prefix and the suffix are the whole model."""

import keras
import numpy as np
import pytest

from finetune.backbones.stages import stages
from finetune.features.cut import Cut, find_cut, task_graph
from finetune.features.graph import Part
from finetune.features.structure import structure_sha256
from finetune.freezing.inventory import take_inventory
from finetune.freezing.plan import make_plan
from finetune.freezing.policies.depth import Depth
from finetune.schedule.phase import Phase
from tests.helpers.backbones import (
    FAMILIES,
    IMAGE_FAMILIES,
    TEXT_FAMILIES,
    make_backbone,
    make_classifier,
    make_inputs,
    make_task,
    small_backbone,
)
from tests.helpers.feature_runs import progressive, train

# Keras takes the mask of shifted windows, an argument of KerasHub's own, for one that it knows.
pytestmark = pytest.mark.filterwarnings("ignore:Layer 'attn' .of type WindowAttention.:UserWarning")

# What crosses one row of features in the middle of the backbone, beside hidden states of one grid.
BESIDE = {
    "mobilenetv5": [(2, 2, 8)],  # the top fuses the grids of both stages
    "albert": [(None,)],  # the padding mask
    "bert": [(None,)],
    "deberta_v3": [(None,), (6, 4)],  # and the relative positions, the same in each row
    "distil_bert": [(None,)],
    "roberta": [(None,)],
    "roformer_v2": [(None,)],  # the attention mask, made of the tokens
    "xlm_roberta": [(None,)],
}
MIDDLE = {"albert": 2, "bert": 2, "f_net": 2, "efficientnet": 2, "mobilenet": 2}  # 1 elsewhere

# A row of features under KerasHub's own head at depth 0: the backbone's pooled output where the
# head is linear in it, else what its first layer that trains or drops out is given.
STORED = {
    "cspnet": (8,),
    "deit": (4,),
    "densenet": (35,),
    "efficientnet": (16,),
    "hgnetv2": (2, 2, 8),  # a convolution of the head comes before the pooling
    "mit": (8,),
    "mobilenet": (1, 1, 16),  # a convolution of the head comes after the pooling
    "mobilenetv5": (16,),
    "resnet": (64,),
    "swin": (8,),
    "vgg": (7, 7, 8),  # likewise
    "vit": (4,),
    **dict.fromkeys(TEXT_FAMILIES, (4,)),
    "xception": (8,),
}


def cut_at(graph, inventory, depth):
    phase = Phase("p", 1, 0.1, Depth(depth))
    plan = make_plan(phase, inventory.infos, inventory.stage_names, inventory.upkeep)
    cut = find_cut(graph, inventory, plan)
    return cut, plan


def rows(graph, cut):
    return [tuple(graph.specs[edge].shape[1:]) for edge in cut.edges]


def in_two_parts(graph, cut, inputs):
    above = set(range(len(graph.calls))) - set(cut.calls)
    below = Part(graph, cut.calls, graph.inputs, cut.edges)
    crossing = below(tuple(keras.tree.flatten(inputs)), training=False)
    assert [len(tensors) for tensors in crossing] == [2] * len(
        crossing
    )  # one row a sample: storable
    return Part(graph, above, cut.edges)(crossing, training=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_depth_has_a_cut_at_its_stage(family):
    found = stages(small_backbone(family))
    inventory = take_inventory(make_task(small_backbone(family)), found)
    graph = task_graph(inventory)
    assert graph.whole == {}
    inputs = make_inputs(family)
    whole = inventory.model(inputs, training=False)
    names = inventory.stage_names
    for depth in range(len(found)):
        cut, plan = cut_at(graph, inventory, depth)
        frozen = {i.path for i in inventory.infos if i.stage in names[: len(found) - depth]}
        assert isinstance(cut, Cut) and set(cut.weights) == frozen, depth
        np.testing.assert_allclose(in_two_parts(graph, cut, inputs), whole, rtol=1e-5, atol=1e-6)
        structure_sha256(graph, cut)
        if depth == 0:
            assert [len(row) for row in rows(graph, cut)] == [1]
        if depth == MIDDLE.get(family, 1):
            assert rows(graph, cut)[1:] == BESIDE.get(family, [])
    assert cut_at(graph, inventory, len(found))[0] is None


@pytest.mark.parametrize("family", [*IMAGE_FAMILIES, *TEXT_FAMILIES])
def test_features_under_keras_hubs_own_head(family):
    inventory = take_inventory(make_classifier(family), stages(small_backbone(family)))
    graph = task_graph(inventory)
    cut, plan = cut_at(graph, inventory, 0)
    assert rows(graph, cut) == [STORED[family]]
    inputs = make_inputs(family)
    whole = inventory.model(inputs, training=False)
    np.testing.assert_allclose(in_two_parts(graph, cut, inputs), whole, rtol=1e-5, atol=1e-6)


def test_the_digest_of_swin_whose_config_fails_ignores_names_and_sees_settings():
    def digest(**changes):
        backbone = make_backbone("swin", **changes)
        inventory = take_inventory(make_task(backbone), stages(backbone))
        graph = task_graph(inventory)
        return structure_sha256(graph, cut_at(graph, inventory, 0)[0])

    assert digest() == digest()
    assert len({digest(), digest(window_size=2), digest(depths=[1, 1])}) == 3


# What was taken apart in a way of its own: blocks that return None, constants, shared blocks.
@pytest.mark.parametrize(("family", "depth"), [("deit", 1), ("dinov3", 1), ("albert", 2)])
def test_stored_equals_recomputed_in_training(family, depth, tmp_path):
    def task():
        backbone = make_backbone(family)
        return make_task(backbone), stages(backbone)

    def inputs(number, generator):
        return make_inputs(family, number, generator)

    cached, computed = (
        train(task, progressive(depth, rate=3e-2), tmp_path, cache, inputs, optimizer="sgd")
        for cache in ("always", "never")
    )
    assert [run.record.phases[0].features["cached"] for run in (cached, computed)] == [True, False]
    for path, value in computed.weights.items():
        np.testing.assert_allclose(cached.weights[path], value, rtol=1e-4, atol=1e-5, err_msg=path)
