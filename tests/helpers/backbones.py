"""The smallest random-weight backbone of each KerasHub family, by family name."""

import functools

IMAGE_FAMILIES = (
    "cspnet", "deit", "densenet", "efficientnet", "hgnetv2", "mit", "mobilenet", "mobilenetv5",
    "resnet", "swin", "vgg", "vit", "xception",
)  # fmt: skip
TEXT_FAMILIES = (
    "albert", "bert", "deberta_v3", "distil_bert", "f_net", "roberta", "roformer_v2",
    "xlm_roberta",
)  # fmt: skip
BACKBONES_ONLY = ("dinov2", "dinov3")  # KerasHub has no classifier for them
FAMILIES = (*IMAGE_FAMILIES, *BACKBONES_ONLY, *TEXT_FAMILIES)

_VIT = {
    "image_shape": (8, 8, 3),
    "patch_size": 4,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 4,
}
_TEXT = {
    "vocabulary_size": 11,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 4,
    "intermediate_dim": 6,
    "dropout": 0.1,
}
_CLASSES = {
    "cspnet": "CSPNet",
    "deit": "DeiT",
    "densenet": "DenseNet",
    "efficientnet": "EfficientNet",
    "hgnetv2": "HGNetV2",
    "mit": "MiT",
    "mobilenet": "MobileNet",
    "mobilenetv5": "MobileNetV5",
    "resnet": "ResNet",
    "swin": "SwinTransformer",
    "vgg": "VGG",
    "vit": "ViT",
    "xception": "Xception",
    "dinov2": "DINOV2",
    "dinov3": "DINOV3",
    "albert": "Albert",
    "bert": "Bert",
    "deberta_v3": "DebertaV3",
    "distil_bert": "DistilBert",
    "f_net": "FNet",
    "roberta": "Roberta",
    "roformer_v2": "RoformerV2",
    "xlm_roberta": "XLMRoberta",
}
_ARGUMENTS = {
    "cspnet": {
        "stem_filters": 4,
        "stem_kernel_size": 3,
        "stem_strides": 1,
        "stem_padding": "same",
        "stackwise_depth": [1, 1],
        "stackwise_strides": 2,
        "stackwise_num_filters": [4, 8],
        "bottle_ratio": (0.5, 1.0),
        "block_ratio": (1.0, 0.5),
        "expand_ratio": (2.0, 1.0),
        "block_type": "dark_block",
        "stage_type": "csp",
        "image_shape": (16, 16, 3),
    },
    "deit": {**_VIT, "intermediate_dim": 6, "dropout_rate": 0.1},
    "densenet": {"stackwise_num_repeats": [1, 1], "growth_rate": 2, "image_shape": (16, 16, 3)},
    "efficientnet": {
        "stackwise_width_coefficients": [1.0, 1.0],
        "stackwise_depth_coefficients": [1.0, 1.0],
        "stackwise_kernel_sizes": [3, 3],
        "stackwise_num_repeats": [1, 1],
        "stackwise_input_filters": [8, 8],
        "stackwise_output_filters": [8, 8],
        "stackwise_expansion_ratios": [1, 2],
        "stackwise_squeeze_and_excite_ratios": [0.25, 0.25],
        "stackwise_strides": [1, 2],
        "stackwise_block_types": ["v1", "v1"],
        "num_features": 16,
        "input_shape": (16, 16, 3),
    },
    "hgnetv2": {
        "depths": [1, 1],
        "embedding_size": 4,
        "hidden_sizes": [8, 8],
        "stem_channels": [3, 4, 4],
        "hidden_act": "relu",
        "use_learnable_affine_block": False,
        # channels in, in the middle and out, blocks, convolutions in a block, kernel size
        "stackwise_stage_filters": [[4, 2, 8, 1, 1, 3], [8, 2, 8, 1, 1, 3]],
        "apply_downsample": [False, True],
        "use_lightweight_conv_block": [False, False],
        "image_shape": (16, 16, 3),
    },
    "mit": {
        "layerwise_depths": [1, 1],
        "num_layers": 2,
        "layerwise_num_heads": [1, 2],
        "layerwise_sr_ratios": [2, 1],
        "max_drop_path_rate": 0.1,
        "layerwise_patch_sizes": [7, 3],
        "layerwise_strides": [4, 2],
        "hidden_dims": [4, 8],
        "image_shape": (16, 16, 3),
    },
    "mobilenet": {
        "stackwise_expansion": [[8], [16]],
        "stackwise_num_blocks": [1, 1],
        "stackwise_num_filters": [[8], [8]],
        "stackwise_kernel_size": [[3], [3]],
        "stackwise_num_strides": [[2], [2]],
        "stackwise_se_ratio": [[None], [0.25]],
        "stackwise_activation": [["relu"], ["hard_swish"]],
        "stackwise_padding": [[1], [1]],
        "output_num_filters": 16,
        "input_num_filters": 8,
        "depthwise_filters": 8,
        "depthwise_stride": 2,
        "depthwise_residual": False,
        "squeeze_and_excite": None,
        "last_layer_filter": 16,
        "image_shape": (16, 16, 3),
    },
    "mobilenetv5": {
        "stackwise_block_types": [["er"], ["uir", "mqa"]],
        "stackwise_num_blocks": [1, 2],
        "stackwise_num_filters": [[8], [8, 8]],
        "stackwise_strides": [[2], [2, 1]],
        "stackwise_act_layers": [["relu"], ["relu", "relu"]],
        "stackwise_exp_ratios": [[2.0], [2.0, 1.0]],
        "stackwise_se_ratios": [[0.0], [0.0, 0.0]],
        "stackwise_dw_kernel_sizes": [[0], [3, 3]],
        "stackwise_dw_start_kernel_sizes": [[0], [0, 0]],
        "stackwise_dw_end_kernel_sizes": [[0], [0, 0]],
        "stackwise_exp_kernel_sizes": [[3], [0, 0]],
        "stackwise_pw_kernel_sizes": [[1], [0, 0]],
        "stackwise_num_heads": [[0], [0, 2]],
        "stackwise_key_dims": [[0], [0, 4]],
        "stackwise_value_dims": [[0], [0, 4]],
        "stackwise_kv_strides": [[0], [0, 1]],
        "stackwise_use_cpe": [[False], [False, False]],
        "stem_size": 8,
        "num_features": 16,
        "use_msfa": True,
        "msfa_output_resolution": 2,
        "image_shape": (16, 16, 3),
    },
    "resnet": {
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [3],
        "stackwise_num_filters": [64, 64],  # KerasHub asks for 64 in the first one
        "stackwise_num_blocks": [1, 1],
        "stackwise_num_strides": [1, 2],
        "block_type": "basic_block",
        "image_shape": (16, 16, 3),
    },
    "swin": {
        "image_shape": (16, 16, 3),
        "patch_size": 2,
        "embed_dim": 4,
        "depths": [2, 1],  # the second block of a stage shifts its windows
        "num_heads": [1, 2],
        "window_size": 4,
        "mlp_ratio": 2.0,
    },
    "vgg": {
        "stackwise_num_repeats": [1, 2],
        "stackwise_num_filters": [4, 8],
        "image_shape": (28, 28, 3),  # KerasHub's head needs a grid of 7×7
    },
    "vit": {**_VIT, "mlp_dim": 6, "dropout_rate": 0.1, "attention_dropout": 0.1},
    "xception": {
        "stackwise_conv_filters": [[4, 4], [8], [8]],
        "stackwise_pooling": [False, True, False],
        "image_shape": (16, 16, 3),
    },
    "dinov2": {
        **_VIT,
        "intermediate_dim": 6,
        "position_embedding_shape": (12, 12, 3),
        "num_register_tokens": 1,
        "dropout_rate": 0.1,
    },
    # rotary embeddings take four numbers a head
    "dinov3": {**_VIT, "hidden_dim": 8, "intermediate_dim": 6, "num_register_tokens": 1},
    # two groups of one layer, each used twice
    "albert": {**_TEXT, "num_layers": 4, "num_groups": 2, "embedding_dim": 3,
               "max_sequence_length": 5},
    "bert": {**_TEXT, "max_sequence_length": 5},
    "deberta_v3": {**_TEXT, "max_sequence_length": 5, "bucket_size": 3},
    "distil_bert": {**_TEXT, "max_sequence_length": 5},
    "f_net": {**{k: v for k, v in _TEXT.items() if k != "num_heads"}, "max_sequence_length": 5},
    "roberta": {**_TEXT, "max_sequence_length": 5},
    "roformer_v2": {**_TEXT, "head_size": 2},
    "xlm_roberta": {**_TEXT, "max_sequence_length": 5},
}  # fmt: skip


def make_backbone(family, **changes):
    """Returns a new backbone of the family."""
    import keras_hub

    cls = getattr(keras_hub.models, f"{_CLASSES[family]}Backbone")
    return cls(**{**_ARGUMENTS[family], **changes})


@functools.cache
def small_backbone(family):
    """Returns the family's backbone, the same one for every test of a session."""
    return make_backbone(family)


def make_classifier(family):
    """Returns KerasHub's own classifier on the session's backbone."""
    import keras_hub

    kind = "Image" if family in IMAGE_FAMILIES else "Text"
    cls = getattr(keras_hub.models, f"{_CLASSES[family]}{kind}Classifier")
    more = {"pooling_hidden_dim": 4} if family == "vgg" else {}
    return cls(backbone=small_backbone(family), num_classes=3, preprocessor=None, **more)


def make_task(backbone):
    """Returns a task model on a backbone: global average where there is a grid, then logits."""
    import keras

    outputs = backbone(backbone.input)
    if isinstance(outputs, dict):  # HGNetV2 gives every stage's, BERT the pooled token too
        outputs = outputs.get("pooled_output", list(outputs.values())[-1])
    pools = {3: keras.layers.GlobalAveragePooling1D, 4: keras.layers.GlobalAveragePooling2D}
    if len(outputs.shape) in pools:
        outputs = pools[len(outputs.shape)](name="pool")(outputs)
    return keras.Model(backbone.input, keras.layers.Dense(3, name="logits")(outputs))


def make_inputs(family, number=2, generator=None):
    """Returns images, or tokens of unequal lengths, as the backbone takes them."""
    import numpy as np

    generator = np.random.default_rng(0) if generator is None else generator
    specs = small_backbone(family).input
    if not isinstance(specs, dict):
        return generator.normal(size=(number, *specs.shape[1:])).astype("float32")
    if family in BACKBONES_ONLY:
        ((name, spec),) = specs.items()
        return {name: generator.normal(size=(number, *spec.shape[1:])).astype("float32")}
    lengths = np.arange(number)[:, None] % 3 + 3
    padding_mask = (np.arange(5) < lengths).astype("int32")
    tokens = {
        "token_ids": generator.integers(1, 11, (number, 5)).astype("int32") * padding_mask,
        "segment_ids": np.zeros((number, 5), "int32"),
        "padding_mask": padding_mask,
    }
    return {name: tokens[name] for name in specs}


def make_resnet(pre_activation=False, **arguments):
    """Returns a two-stage ResNet of 16×16 images with random weights."""
    import keras_hub

    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        use_pre_activation=pre_activation,
        **{"image_shape": (16, 16, 3), **arguments},
    )
