"""What KerasHub's EfficientNet leaves out of its config is in that of one that we load."""

import json

import keras
import numpy as np
import pytest

from finetune.backbones.conversion import _complete_config
from tests.helpers.backbones import make_backbone

FUSED = {"stackwise_block_types": ["fused", "unfused"], "stackwise_num_repeats": [2, 2]}


@pytest.mark.parametrize("width", [1.0, 1.2])
@pytest.mark.parametrize("without", [[True, False], [False, True], [False, False]])
def test_read_again_it_is_the_same_model(without, width):
    keras.utils.set_random_seed(0)
    backbone = make_backbone(
        "efficientnet", num_features=56, stackwise_nores_option=without,
        stackwise_width_coefficients=[1.0, width], **FUSED,
    )  # fmt: skip
    _complete_config(backbone)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(backbone)))
    again = keras.saving.deserialize_keras_object(config)
    again.set_weights(backbone.get_weights())
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    np.testing.assert_allclose(
        again.predict(images, verbose=0), backbone.predict(images, verbose=0), rtol=1e-5
    )


def test_without_that_it_would_be_another():
    """Once KerasHub says it itself, what puts it back can go."""
    backbone = make_backbone("efficientnet", num_features=56)
    assert {"stackwise_nores_option", "num_features"}.isdisjoint(backbone.get_config())
