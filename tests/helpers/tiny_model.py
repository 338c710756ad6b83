"""The smallest task model of two stages."""

from types import SimpleNamespace


def make_tiny(dropout: float = 0.0, seed: int = 0):
    """Makes a seeded task model with a convolution and a BatchNorm in each stage and a dense head.

    Args:
        dropout: Rate of the dropout at the end of stage1.
        seed: Seed of the weights.

    Returns:
        (model, stages). Inputs are (8, 8, 1) images; outputs are 3 logits. The last layer of stage2
        has a weight that is not trainable.
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
            layers=tuple(layer for layer in backbone.layers if layer.name.startswith(f"s{n}")),
        )
        for n in (1, 2)
    )
    return model, stages
