"""Stages, depths and counts of every KerasHub family that classifies, and of DINO."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from finetune.backbones import HEAD, families
from finetune.backbones.stages import stages
from finetune.errors import ConfigError
from finetune.freezing.apply import apply, release
from finetune.freezing.counts import count
from finetune.freezing.inventory import take_inventory
from finetune.freezing.plan import make_plan
from finetune.freezing.policies.depth import Depth
from finetune.keras_internals import flatten
from finetune.schedule.phase import Phase
from tests.helpers.backbones import (
    BACKBONES_ONLY,
    FAMILIES,
    IMAGE_FAMILIES,
    TEXT_FAMILIES,
    make_backbone,
    make_classifier,
    make_inputs,
    make_task,
    small_backbone,
)

# Keras takes the mask of shifted windows, an argument of KerasHub's own, for one that it knows.
pytestmark = pytest.mark.filterwarnings("ignore:Layer 'attn' .of type WindowAttention.:UserWarning")

STAGES = {
    "cspnet": "stem stage1 stage2",
    "deit": "embeddings block1 block2",
    "densenet": "stem stage1 stage2",
    "efficientnet": "stem stage1 stage2 top",
    "hgnetv2": "stem stage1 stage2",
    "mit": "stage1 stage2",
    "mobilenet": "stem stage1 stage2 stage3 stage4",
    "mobilenetv5": "stem stage1 stage2 top",
    "resnet": "stem stage1 stage2",
    "swin": "stem stage1 stage2",
    "vgg": "stage1 stage2",
    "vit": "embeddings block1 block2",
    "xception": "stage1 stage2 stage3",
    "dinov2": "embeddings block1 block2",
    "dinov3": "embeddings block1 block2",
    "albert": "embeddings block1 block2 top",
    "bert": "embeddings block1 block2 top",
    "deberta_v3": "embeddings block1 block2",
    "distil_bert": "embeddings block1 block2",
    "f_net": "embeddings block1 block2 top",
    "roberta": "embeddings block1 block2",
    "roformer_v2": "embeddings block1 block2",
    "xlm_roberta": "embeddings block1 block2",
}

# A transformer block, width d = 4, inner width 6: two norms of 2 weights, four dense layers of the
# attention and two of the MLP of 2 each, 4 + 8 + 4 = 16 weights; 2·2d + 4(d² + d) + (6d + 6) +
# (6d + d) = 16 + 80 + 30 + 28 = 154 parameters.
COUNTS = {
    # depth, then weights and parameters of the backbone that train, and those that cannot
    # stage2: kernels 3²·4·4 + 4·8 + 4·4 + 3²·4·4 + 4·4 + 8·8 = 416; norms of 4+8+4+4+4+8 = 32
    "cspnet": (1, (6 + 12, 416 + 64), (12, 64)),
    "deit": (1, (16 + 2, 154 + 8), (0, 0)),  # the last block and the closing norm
    # 64 + 2 channels halved to 33: kernels 33·8 + 3²·8·2 = 408; norms of 33+8+35 = 76
    "densenet": (1, (2 + 6, 408 + 152), (6, 152)),
    # top 8·16, norm 16; stage2 8·16 + 3²·16 + (16·2 + 2) + (2·16 + 16) + 16·8 = 482, norms 16+16+8
    "efficientnet": (2, (1 + 2 + 7 + 6, 128 + 32 + 482 + 80), (2 + 6, 32 + 80)),
    # stage2: depthwise 3²·8, 3²·8·2, (8 + 2)·4, 4·8 = 288; norms of 8+2+4+8 = 22
    "hgnetv2": (1, (4 + 8, 288 + 44), (8, 44)),
    # patches 3²·4·8 + 8 = 296; attention 4(8² + 8) = 288; MLP 8·32 + 32 = 288, depthwise
    # 3²·32 + 32 = 320, 32·8 + 8 = 264; four norms of 16
    "mit": (1, (2 + 8 + 6 + 8, 296 + 288 + 288 + 320 + 264 + 64), (0, 0)),
    # stage4 8·16, norm 16; stage3 8·16 + 3²·16 + (16·8 + 8) + (8·16 + 16) + 16·8 = 680, norms 16+16+8
    "mobilenet": (2, (1 + 2 + 7 + 6, 128 + 32 + 680 + 80), (2 + 6, 32 + 80)),
    # both stages' 8 + 8 channels: 16·32 + 32 = 544 and 32·16 + 16 = 528; scales 32 + 16 + 16
    "mobilenetv5": (1, (4 + 3, 544 + 528 + 64), (0, 0)),
    # two kernels 3²·64·64 and a shortcut 64·64; three norms of 64
    "resnet": (1, (3 + 6, 2 * 36864 + 4096 + 384), (6, 384)),
    # width 8: two norms and the closing one 3·16; positions (2·4 − 1)² for 2 heads = 98; attention
    # 8·24 + 24 + 8·8 + 8 = 288; MLP 8·16 + 16 + 16·8 + 8 = 280
    "swin": (1, (6 + 1 + 4 + 4, 48 + 98 + 288 + 280), (0, 0)),
    "vgg": (1, (4, 3 * 3 * 4 * 8 + 8 + 3 * 3 * 8 * 8 + 8), (0, 0)),
    "vit": (2, (16 + 16 + 2, 154 + 154 + 8), (0, 0)),
    # stage3 3²·8 + 8·8, norm 8; stage2 3²·4 + 4·8 and a shortcut 4·8, norms 8 + 8
    "xception": (2, (2 + 2 + 3 + 4, 136 + 16 + 100 + 32), (2 + 4, 16 + 32)),
    # class, mask and register token 3·4, 4 + 1 positions, patches 4·4·3·4 + 4 = 196; two blocks,
    # each with two scales of 4; closing norm. The 3² + 1 positions as stored never train.
    "dinov2": (3, (6 + 2 * 18 + 2, 12 + 20 + 196 + 2 * 162 + 8), (1, 40)),
    # width 8: norms 32, attention 4(64 + 8) = 288, MLP 8·6 + 6 + 6·8 + 8 = 110, scales 16; norm 16
    "dinov3": (1, (18 + 2, 32 + 288 + 110 + 16 + 16), (0, 0)),
    "albert": (2, (16 + 2, 154 + 20), (0, 0)),  # the second group; the pooled token's 4·4 + 4
    "bert": (2, (16 + 2, 154 + 20), (0, 0)),
    # all: tokens 11·4, norm 8, relative positions 2·3·4, norm 8; two blocks
    "deberta_v3": (3, (6 + 32, 44 + 8 + 24 + 8 + 308), (0, 0)),
    "distil_bert": (1, (16, 154), (0, 0)),
    # two norms 16, MLP 4·6 + 6 + 6·4 + 4 = 58; the pooled token's 4·4 + 4
    "f_net": (2, (8 + 2, 16 + 58 + 20), (0, 0)),
    "roberta": (2, (32, 308), (0, 0)),
    # no biases: four 4·2·2, MLP 4·6 + 6·4, two scales of 4
    "roformer_v2": (1, (8, 64 + 48 + 8), (0, 0)),
    # all: tokens 11·4, positions 5·4, norm 8; two blocks
    "xlm_roberta": (3, (4 + 32, 44 + 20 + 8 + 308), (0, 0)),
}


def ids(weights):
    return {id(weight) for weight in weights}


def plan_at(inventory, depth):
    phase = Phase("p", 1, 0.1, Depth(depth))
    return make_plan(phase, inventory.infos, inventory.stage_names, inventory.upkeep)


def subclasses(cls):
    for subclass in cls.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def test_every_family_that_keras_hub_classifies_with_is_here():
    known = {
        family.backbone
        for family in families.FAMILIES
        if family.kind == "image" and family.classifier
    }
    assert {type(small_backbone(family)) for family in IMAGE_FAMILIES} == known
    text = {classifier.backbone_cls for classifier in subclasses(keras_hub.models.TextClassifier)}
    proteins = {keras_hub.models.ESMBackbone}  # amino acids are no text
    assert {type(small_backbone(family)) for family in TEXT_FAMILIES} == text - proteins
    assert set(STAGES) == set(COUNTS) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_stages_share_out_all_weights_in_order(family):
    backbone = small_backbone(family)
    found = stages(backbone)
    assert [stage.name for stage in found] == STAGES[family].split()
    assert all(stage.weights for stage in found)
    weights = [weight for stage in found for weight in stage.weights]
    assert len(weights) == len(ids(weights)) and ids(weights) == ids(backbone.weights)
    assert {stage.uses for stage in found} == ({1, 2} if family == "albert" else {1})


@pytest.mark.parametrize("family", FAMILIES)
def test_each_depth_trains_its_stages_and_nothing_else(family):
    found = stages(small_backbone(family))
    inventory = take_inventory(make_task(small_backbone(family)), found)
    cannot = {id(inventory.variables[i.path]) for i in inventory.infos if not i.can_train}
    head = ids(inventory.model.weights) - ids(w for stage in found for w in stage.weights)
    assert len(head) == 2
    for depth in range(len(found) + 1):
        plan = plan_at(inventory, depth)
        topmost = found[len(found) - depth :]
        expected = head | ids(w for stage in topmost for w in stage.weights) - cannot
        assert ids(inventory.variables[path] for path in plan.trainable) == expected
        apply(plan, inventory)
        assert ids(inventory.model.trainable_weights) == expected
        if depth == COUNTS[family][0]:
            counts = count(plan, inventory)
            unfrozen = [counts.stages[stage.name] for stage in topmost]
            for state, numbers in zip(
                ("trainable", "untrainable"), COUNTS[family][1:], strict=True
            ):
                summed = tuple(
                    sum(c[state][k] for c in unfrozen) for k in ("weights", "parameters")
                )
                assert summed == numbers, state
            assert counts.stages[HEAD]["trainable"]["weights"] == 2
    release(inventory)


@pytest.mark.parametrize("family", [*IMAGE_FAMILIES, *TEXT_FAMILIES])
def test_keras_hubs_own_head_is_the_rest(family):
    found = stages(small_backbone(family))
    task = make_classifier(family)
    inventory = take_inventory(task, found)
    assert ids(inventory.variables.values()) == ids(task.weights)
    assert {info.stage for info in inventory.infos} == {*STAGES[family].split(), HEAD}
    in_stages = {id(inventory.variables[i.path]) for i in inventory.infos if i.stage != HEAD}
    assert in_stages == ids(small_backbone(family).weights)


# RoFormer: one after the embeddings, two a block. MobileNetV5: stem 1, stage1 2, stage2 3 + 1 before
# the attention, top 2 in its block and 1 after.
@pytest.mark.parametrize(
    ("family", "norms"), [("roformer_v2", 1 + 2 * 2), ("mobilenetv5", 1 + 2 + 3 + 1 + 2 + 1)]
)
def test_norms_of_keras_hubs_own_are_norms(family, norms):
    inventory = take_inventory(make_task(small_backbone(family)), stages(small_backbone(family)))
    assert sum(info.is_norm for info in inventory.infos) == norms


def test_a_depth_counts_albert_groups_not_repetitions():
    backbone = make_backbone("albert", num_layers=12, num_groups=1)
    inventory = take_inventory(make_task(backbone), stages(backbone))
    assert inventory.stage_names == ("embeddings", "block1", "top", HEAD)
    with pytest.raises(ConfigError, match=r"0\.\.3 .* it runs block1 12 times with the same weig"):
        plan_at(inventory, 12)


def test_an_error_of_depth_says_nothing_of_sharing_where_there_is_none():
    inventory = take_inventory(make_task(small_backbone("bert")), stages(small_backbone("bert")))
    with pytest.raises(ConfigError, match=r"4 stages: embeddings, block1, block2, top\)"):
        plan_at(inventory, 5)


def test_albert_layers_of_one_group_are_one_stage():
    backbone = make_backbone("albert", num_inner_repetitions=2)
    assert [(s.name, len(s.weights), s.uses) for s in stages(backbone)] == [
        ("embeddings", 7, 1), ("block1", 32, 2), ("block2", 32, 2), ("top", 2, 1),
    ]  # fmt: skip


def test_deberta_relative_positions_are_in_the_embeddings():
    first = stages(small_backbone("deberta_v3"))[0]
    assert small_backbone("deberta_v3").get_layer("rel_embedding") in first.layers


def test_which_families_have_batch_norm():
    found = {
        family
        for family in FAMILIES
        for layer in flatten(small_backbone(family))
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert sorted(found) == [
        "cspnet", "densenet", "efficientnet", "hgnetv2", "mobilenet", "resnet", "xception",
    ]  # fmt: skip


def without_gradient(task, family):
    """Returns the names of the weights that train and that the outputs do not depend on."""
    take_inventory(task, stages(small_backbone(family)))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(task(make_inputs(family), training=True) ** 2)
    weights = task.trainable_weights
    gradients = tape.gradient(total, [weight.value for weight in weights])
    return [w.name for w, gradient in zip(weights, gradients, strict=True) if gradient is None]


@pytest.mark.parametrize("family", [*IMAGE_FAMILIES, *TEXT_FAMILIES])
def test_every_weight_under_keras_hubs_own_head_takes_a_gradient(family):
    assert without_gradient(make_classifier(family), family) == []


@pytest.mark.parametrize("family", BACKBONES_ONLY)
def test_dino_mask_tokens_take_no_gradient(family):
    assert without_gradient(make_task(small_backbone(family)), family) == ["mask_token"]


@pytest.mark.parametrize("family", BACKBONES_ONLY)
def test_dino_of_keras_hub_fails_in_training_with_drop_path(family):
    backbone = make_backbone(family, drop_path_rate=0.2)
    with pytest.raises(ValueError, match="DropPath"):
        backbone(make_inputs(family), training=True)


def test_saving_dinov2_of_keras_hub_may_lose_trained_positions(tmp_path):
    backbone, loaded = make_backbone("dinov2"), make_backbone("dinov2")
    positions = backbone.get_layer("embeddings").interpolated_position_embeddings
    positions.assign_add(keras.ops.ones_like(positions))  # a positive sum of changes
    backbone.save_weights(tmp_path / "backbone.weights.h5")
    loaded.load_weights(tmp_path / "backbone.weights.h5")
    lost = positions - loaded.get_layer("embeddings").interpolated_position_embeddings
    np.testing.assert_allclose(lost, 1, rtol=1e-5)
