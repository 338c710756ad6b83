"""A tiny two-stage task model, its inventory, and digits small enough to train in a second."""

import gc
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["FINETUNE_LAUNCHER"] = "python -m finetune"  # in suggestions, however pytest was started

from types import SimpleNamespace

import pytest


def make_tiny(dropout: float = 0.0, seed: int = 0):
    """Returns (model, stages): conv-BN-dropout stage1, conv-BN-constant stage2, dense head.

    Inputs are (8, 8, 1) images; outputs are 3 logits.
    """
    import keras

    class Constant(keras.layers.Layer):
        """Adds a weight that its layer made non-trainable."""

        def build(self, input_shape):
            self.shift = self.add_weight(shape=(4,), trainable=False, name="shift")
            self.built = True

        def call(self, inputs):
            return inputs + self.shift

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, name="s1_conv")(inputs)
    x = keras.layers.BatchNormalization(name="s1_bn")(x)
    x = keras.layers.Dropout(dropout, seed=1, name="s1_drop")(x)
    x = keras.layers.Conv2D(4, 3, name="s2_conv")(x)
    x = keras.layers.BatchNormalization(name="s2_bn")(x)
    x = Constant(name="s2_constant")(x)
    backbone = keras.Model(inputs, x, name="backbone")
    outer = keras.Input((8, 8, 1))
    y = keras.layers.GlobalAveragePooling2D(name="pooler")(backbone(outer))
    model = keras.Model(outer, keras.layers.Dense(3, name="logits")(y), name="task")
    stages = tuple(
        SimpleNamespace(
            name=f"stage{n}",
            layers=tuple(each for each in backbone.layers if each.name.startswith(f"s{n}")),
        )
        for n in (1, 2)
    )
    return model, stages


@pytest.fixture
def tiny():
    """The inventory of a fresh tiny model."""
    from finetune.freezing.inventory import take_inventory

    return take_inventory(*make_tiny(dropout=0.1))


@pytest.fixture(scope="session")
def preset(tmp_path_factory):
    """Directory of a random-weight ResNet preset with an image converter."""
    import keras
    import keras_hub

    from tests.helpers.backbones import make_resnet

    directory = tmp_path_factory.mktemp("presets") / "tiny"
    keras.utils.set_random_seed(3)
    make_resnet().save_to_preset(str(directory))
    converter = keras_hub.layers.ResNetImageConverter(image_size=(16, 16), scale=1 / 128)
    converter.save_to_preset(str(directory))
    return directory


@pytest.fixture(scope="session", autouse=True)
def own_stores(tmp_path_factory):
    """Keeps the features of tests, and the runs they track, out of the user's stores."""
    os.environ["FINETUNE_FEATURES_DIR"] = str(tmp_path_factory.mktemp("features"))
    os.environ["TRACKIO_DIR"] = str(tmp_path_factory.mktemp("trackio"))


def pytest_configure():
    """Lets commands run in the process of the tests.

    absl keeps the stderr of its import, here pytest's, and closes it when Hydra sets logging up
    while another one is in place: then nothing more is shown, but «lost sys.stderr».
    """
    from absl import logging

    logging.get_absl_handler().python_handler.stream = sys.__stderr__


def pytest_collection_finish():
    """Takes what has been imported out of what every collection goes through: they are many."""
    gc.collect()
    gc.freeze()
