import keras
import keras_hub
import pytest

from finetune.backbones.stages import stages
from finetune.errors import FinetuneError
from tests.helpers.backbones import make_resnet


def counts(backbone):
    found = stages(backbone)
    names = [layer.name for stage in found for layer in stage.layers]
    assert names == [layer.name for layer in backbone.layers]
    return {stage.name: len(stage.weights) for stage in found}


def test_resnet_v1():
    # Conv without bias 1, BatchNorm 4. Stem 1+4; stage1 2×(1+4); stage2 2×(1+4) + shortcut 1+4.
    assert counts(make_resnet()) == {"stem": 5, "stage1": 10, "stage2": 15}


def test_resnet_v2_final_norm_joins_the_last_stage():
    # Stem 1; a block is norm 4, conv 1, norm 4, conv 1; stage2 + shortcut 1, post norm 4.
    assert counts(make_resnet(pre_activation=True)) == {"stem": 1, "stage1": 10, "stage2": 15}


@pytest.mark.parametrize("types", [["v1", "v1"], ["fused", "unfused"]])
def test_efficientnet(types):
    backbone = keras_hub.models.EfficientNetBackbone(
        stackwise_width_coefficients=[1.0, 1.0],
        stackwise_depth_coefficients=[1.0, 1.0],
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[1, 2],
        stackwise_input_filters=[8, 8],
        stackwise_output_filters=[8, 8],
        stackwise_expansion_ratios=[1, 4],
        stackwise_squeeze_and_excite_ratios=[0.25, 0.25],
        stackwise_strides=[1, 2],
        stackwise_block_types=types,
        input_shape=(32, 32, 3),
    )
    found = counts(backbone)
    assert list(found) == ["stem", "stage1", "stage2", "top"]
    assert found["stem"] == 5 and found["top"] == 5  # conv 1, norm 4
    if types[0] == "v1":  # dwconv 1, norm 4, squeeze 2, excite 2, project 1, norm 4
        assert found["stage1"] == 14 and found["stage2"] == 2 * (14 + 5)  # + expand conv and norm


def test_mobilenet():
    backbone = keras_hub.models.MobileNetBackbone(
        stackwise_expansion=[[40], [64]],
        stackwise_num_blocks=[1, 1],
        stackwise_num_filters=[[16], [24]],
        stackwise_kernel_size=[[3], [5]],
        stackwise_num_strides=[[2], [2]],
        stackwise_se_ratio=[[None], [0.25]],
        stackwise_activation=[["relu"], ["hard_swish"]],
        stackwise_padding=[[1], [2]],
        output_num_filters=64,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        squeeze_and_excite=0.5,
        last_layer_filter=64,
        image_shape=(32, 32, 3),
    )
    # Stem 5; depthwise block 5+4+5; inverted 3×5; with squeeze-excite +4; last convolution 5.
    expected = {"stem": 5, "stage1": 14, "stage2": 15, "stage3": 19, "stage4": 5}
    assert counts(backbone) == expected


def test_vgg_has_no_stem():
    backbone = keras_hub.models.VGGBackbone([1, 2], [8, 8], image_shape=(32, 32, 3))
    assert counts(backbone) == {"stage1": 2, "stage2": 4}


def test_fallback_by_resolution_keeps_squeeze_layers_inside():
    inputs = x = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="a")(x)
    squeezed = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = keras.layers.Multiply()([x, keras.layers.Conv2D(4, 1, name="squeeze")(squeezed)])
    x = keras.layers.Conv2D(4, 3, padding="same", name="b")(x)
    x = keras.layers.Conv2D(4, 3, strides=2, name="c")(keras.layers.ZeroPadding2D(1)(x))
    x = keras.layers.Dense(4, name="d")(keras.layers.GlobalAveragePooling2D()(x))
    backbone = keras.Model(inputs, x)
    assert counts(backbone) == {"stage1": 6, "stage2": 2, "top": 2}
    assert stages(backbone)[2].layers[0].name == "d"


def test_fallback_without_resolutions_makes_each_weighted_layer_a_stage():
    inputs = keras.Input((5,))
    x = keras.layers.LayerNormalization()(keras.layers.Dense(4)(inputs))
    x = keras.layers.Dense(3)(keras.layers.ReLU()(x))
    expected = {"stage1": 2, "stage2": 2, "stage3": 2}
    assert counts(keras.Model(inputs, x)) == expected


def test_closing_norm_belongs_to_the_last_stage():
    inputs = keras.Input((5,))
    x = keras.layers.Dense(3)(keras.layers.Dense(4)(inputs))
    x = keras.layers.LayerNormalization()(x)
    assert counts(keras.Model(inputs, x)) == {"stage1": 2, "stage2": 4}


def test_weight_in_two_stages_is_refused():
    shared = keras.layers.Dense(5)
    inputs = keras.Input((5,))
    first = keras.Sequential([shared], name="first")
    second = keras.Sequential([shared], name="second")
    with pytest.raises(FinetuneError, match="every weight in exactly one stage.*2 weights"):
        stages(keras.Model(inputs, second(first(inputs))))


def test_a_layer_of_the_users_own_is_not_taken_for_an_encoder():
    class Own(keras.layers.Layer):
        encoder_layers = 3

        def build(self, shape):
            self.dense = keras.layers.Dense(4)
            self.dense.build(shape)

        def call(self, inputs):
            return self.dense(inputs)

    inputs = keras.Input((5,))
    backbone = keras.Model(inputs, keras.layers.Dense(3)(Own()(inputs)))
    backbone.transformer_layers = 2
    assert counts(backbone) == {"stage1": 2, "stage2": 2}
