"""What a layer is: decided by class and behaviour, whatever it is called."""

import keras
import keras_hub
import numpy as np
import pytest
from keras_hub.src.models.mobilenetv5.mobilenetv5_layers import RmsNorm2d

from finetune.backbones.layer_kinds import (
    augmentation_in,
    is_augmentation,
    is_normalization,
    is_plain_preprocessing,
)

L = keras.layers


class Whitening(L.Layer):
    """A normalization whose name does not say so: gain and offset on standardised rows."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), initializer="zeros", name="gain")
        self.offset = self.add_weight(shape=(shape[-1],), initializer="ones", name="offset")
        self.built = True

    def call(self, x):
        x = x - keras.ops.mean(x, -1, keepdims=True)
        spread = keras.ops.sqrt(keras.ops.mean(x * x, -1, keepdims=True) + 1e-6)
        return x / spread * self.gain + self.offset


class LayerNorm(L.Layer):
    """A layer whose name says that it normalizes, and that only scales."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="zeros", name="gamma")
        self.built = True

    def call(self, x):
        return x * self.gamma


class Position(LayerNorm):
    """Returns what it has learned, whatever it is given."""

    def call(self, x):
        return keras.ops.zeros_like(x) + self.gamma


class Fussy(LayerNorm):
    """Wants a second input."""

    def call(self, x, other):
        return x * self.gamma + other


class SyncBN(L.BatchNormalization):
    pass


NORMS = [
    (L.BatchNormalization(), True),
    (SyncBN(), True),
    (L.LayerNormalization(), True),
    (L.GroupNormalization(2), True),
    (L.RMSNormalization(), True),
    (L.UnitNormalization(), True),
    (keras_hub.layers.RMSNormalization(6), True),
    (Whitening(), True),
    (L.Normalization(mean=0.0, variance=1.0), False),
    (L.PReLU(), False),
    (LayerNorm(), False),
    (Position(), False),
    (L.Dense(6), False),
    (L.SpectralNormalization(L.Dense(6)), False),
]


@pytest.mark.parametrize(
    ("layer", "expected"), NORMS, ids=[type(layer).__name__ for layer, _ in NORMS]
)
def test_normalization_is_what_normalizes(layer, expected):
    layer(np.ones((2, 6), "float32"))
    before = [np.array(weight) for weight in layer.weights]
    assert is_normalization(layer) is expected
    for was, now in zip(before, layer.weights, strict=True):  # asking changes nothing
        np.testing.assert_array_equal(was, now)


def test_normalization_of_other_inputs():
    images = RmsNorm2d(4)
    images(np.ones((2, 5, 5, 4), "float32"))
    assert is_normalization(images)
    two = Fussy()
    two(np.ones((2, 6), "float32"), np.ones((2, 6), "float32"))
    assert not is_normalization(two)
    low = keras.layers.LayerNormalization(dtype="mixed_bfloat16")
    low(np.ones((2, 6), "float32"))
    assert is_normalization(low)


@keras.saving.register_keras_serializable("tests")
class Cutout(L.Layer):
    """An augmentation of a package that does not derive from Keras' own."""

    def call(self, x, training=None):
        return x


class Shear(L.RandomFlip):
    pass


def test_augmentation_is_what_changes_images_at_random():
    random = [L.RandomFlip(), L.RandAugment(), L.MixUp(), L.RandomErasing(), L.CutMix(), Shear()]
    assert all(map(is_augmentation, random))
    plain = [L.Resizing(4, 4), L.CenterCrop(4, 4), L.AutoContrast(), L.Equalization()]
    assert all(map(is_plain_preprocessing, plain))
    others = [L.Rescaling(2.0), L.Dropout(0.5), L.GaussianNoise(0.5), Cutout(), L.Dense(2)]
    assert not any(map(is_augmentation, [*plain, *others]))


def found(layers, size=8):
    model = keras.Sequential([keras.Input((size, size, 3)), *layers])
    ids = augmentation_in(model)
    layers = [layer for layer in model._flatten_layers() if not isinstance(layer, L.InputLayer)]
    return [layer.name for layer in layers if id(layer) in ids]


def test_augmentation_is_found_where_no_pretrained_weight_has_been():
    conv = L.Conv2D(4, 3, name="conv")
    layers = [Cutout(name="a"), L.Dropout(0.5, name="b"), conv, Cutout(name="c")]
    assert found(layers) == ["a"]  # dropout is a regularization, c is inside of the network
    flip = L.RandomFlip(name="flip")
    assert found([L.Conv2D(4, 3), flip]) == ["flip"]  # Keras' own is one anywhere
    noise = [L.GaussianNoise(0.5, name="data"), L.Conv2D(4, 3), L.GaussianNoise(0.5, name="inside")]
    assert found(noise) == ["data"]
    norm = L.Normalization(mean=[0.0] * 3, variance=[1.0] * 3)
    assert found([norm, Cutout(name="d"), L.Conv2D(4, 3)]) == ["d"]  # constants are not learned


def test_all_of_a_weightless_pipeline_is_augmentation():
    inner = [L.RandomFlip(name="f"), L.GaussianNoise(0.1, name="n"), L.Rescaling(2.0, name="r")]
    pipeline = keras.Sequential(inner, name="augment")
    assert set(found([pipeline, L.Conv2D(4, 3)])) == {"augment", "f", "n", "r"}
    trained = keras.Sequential([L.RandomFlip(name="g"), L.Conv2D(4, 3), L.Dropout(0.5)])
    assert found([trained]) == ["g"]


def test_a_layer_that_is_called_twice_must_be_before_all_weights():
    inputs = keras.Input((8, 8, 3))
    shared = Cutout(name="shared")
    x = L.Conv2D(3, 1)(shared(inputs))
    assert augmentation_in(keras.Model(inputs, shared(x))) == frozenset()


def test_quantised_weights_are_learned_too():
    inputs = keras.Input((6,))
    x = L.Dense(4, use_bias=False, name="dense")(inputs)
    model = keras.Model(inputs, Cutout()(x))
    model.get_layer("dense").quantize("int8")
    assert augmentation_in(model) == frozenset()
