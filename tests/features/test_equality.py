"""Stored equals recomputed, on a residual, an inverted-residual, a ViT and a BERT backbone."""

from types import SimpleNamespace

import keras
import keras_hub
import numpy as np
import pytest

from finetune.backbones.stages import stages as find_stages
from tests.helpers.backbones import make_resnet
from tests.helpers.feature_runs import progressive, train


def resnet():
    backbone = make_resnet()
    task = keras_hub.models.ResNetImageClassifier(
        backbone, num_classes=3, preprocessor=None, dropout=0.3
    )
    return task, find_stages(backbone)


def mobilenet():
    backbone = keras_hub.models.MobileNetBackbone(
        stackwise_expansion=[[40], [64]],
        stackwise_num_blocks=[1, 1],
        stackwise_num_filters=[[16], [24]],
        stackwise_kernel_size=[[3], [5]],
        stackwise_num_strides=[[1], [2]],
        stackwise_se_ratio=[[None], [0.25]],
        stackwise_activation=[["relu"], ["hard_swish"]],
        stackwise_padding=[[1], [2]],
        output_num_filters=64,
        input_num_filters=16,
        image_shape=(16, 16, 3),
        input_activation="hard_swish",
        output_activation="hard_swish",
        depthwise_filters=16,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=32,
        squeeze_and_excite=0.5,
    )
    task = keras_hub.models.MobileNetImageClassifier(backbone, num_classes=3, preprocessor=None)
    return task, find_stages(backbone)


def vit():
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(16, 16, 3), patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16,
        dropout_rate=0.2, attention_dropout=0.2,
    )  # fmt: skip
    task = keras_hub.models.ViTImageClassifier(
        backbone, num_classes=3, preprocessor=None, dropout=0.3
    )
    return task, find_stages(backbone)


def bert():
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=50, num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=16,
        max_sequence_length=12, dropout=0.2,
    )  # fmt: skip
    task = keras_hub.models.BertTextClassifier(
        backbone, num_classes=3, preprocessor=None, dropout=0.3
    )
    *blocks, last = backbone.transformer_layers
    names = ("token_embedding", "position_embedding", "segment_embedding", "embeddings_add",
             "embeddings_layer_norm", "embeddings_dropout")  # fmt: skip
    layers = [tuple(backbone.get_layer(name) for name in names), *((b,) for b in blocks)]
    layers.append((last, backbone.pooled_dense))
    stages = [
        SimpleNamespace(name=name, layers=held)
        for name, held in zip(("embeddings", "block1", "block2"), layers, strict=True)
    ]
    return task, stages


def tokens(number, generator):
    lengths = generator.integers(3, 12, number)
    return {
        "token_ids": generator.integers(1, 50, (number, 12)).astype("int32"),
        "segment_ids": np.zeros((number, 12), "int32"),
        "padding_mask": (np.arange(12) < lengths[:, None]).astype("int32"),
    }


CASES = {
    # The gradient of an attention's key bias is zero but for rounding, and Adam makes steps of
    # any noise: those with attention use plain SGD.
    "residual": (resnet, None, "adamw", 3e-3),
    "inverted residual": (mobilenet, None, "adamw", 3e-3),
    "vit": (vit, None, "sgd", 3e-2),
    "bert": (bert, tokens, "sgd", 3e-2),
}


# A head in its own coordinates over each family; in the given ones over an image and a text
# backbone here, and over the residual one below.
@pytest.mark.parametrize(
    ("family", "standardise"),
    [*[(family, True) for family in CASES], ("inverted residual", False), ("bert", False)],
)
def test_stored_equals_recomputed(family, standardise, tmp_path):
    make, inputs, optimizer, rate = CASES[family]
    phases = progressive(0, 1, 2, rate=rate)
    cached, computed = (
        train(
            make, phases, tmp_path, cache, inputs, standardise=standardise, optimizer=optimizer
        )  # fmt: skip
        for cache in ("always", "never")
    )
    assert [phase.features["cached"] for phase in cached.record.phases] == [True] * 3
    assert [phase.features["cached"] for phase in computed.record.phases] == [False] * 3
    assert len(cached.rows) == len(computed.rows) == 12
    for stored, plain in zip(cached.rows, computed.rows, strict=True):
        assert stored.loss == pytest.approx(plain.loss, rel=1e-4), (stored, plain)
        assert stored.accuracy == plain.accuracy
    for path, value in computed.weights.items():
        near_zero = max(1e-4 * np.abs(value).max(), 1e-7)  # of float32, for what stays at 0
        np.testing.assert_allclose(
            cached.weights[path], value, rtol=1e-4, atol=near_zero, err_msg=path
        )
    assert cached.record.test["loss"] == pytest.approx(computed.record.test["loss"], rel=1e-4)
    # one pass over each split for all three cuts
    assert [phase.features["samples_extracted"] for phase in cached.record.phases] == [38, 0, 0]
    if family == "residual":
        require_trained_as_said_and_batch_norm_asleep(cached)


def require_trained_as_said_and_batch_norm_asleep(run):
    for phase in run.record.phases:
        assert phase.frozen_proof.weights_changed == 0
        assert phase.frozen_proof.sha256_before == phase.frozen_proof.sha256_after
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    fresh = {v.path: np.array(v) for v in resnet()[0].weights}
    moved = {p for p, v in run.weights.items() if not np.array_equal(v, fresh[p])}
    stem = {path for path in fresh if path.startswith("conv1") or "pool" in path}
    assert moved and not moved & stem
    assert not [path for path in moved if "moving" in path]
    assert {"predictions/kernel", "predictions/bias"} <= moved


def test_an_awake_batch_norm_above_the_cut_equals_too(tmp_path):
    phases = progressive(0, 1, batch_norm="train")
    cached, computed = (
        train(resnet, phases, tmp_path, cache, standardise=False) for cache in ("always", "never")
    )
    for path, value in computed.weights.items():
        np.testing.assert_allclose(
            cached.weights[path], value, rtol=1e-4, atol=1e-4 * np.abs(value).max(), err_msg=path
        )
    moved = [p for p in computed.weights if "moving" in p and "stack1" in p]
    assert moved
