"""TensorFlow operations that tf2onnx does not support; importing this module registers them."""

from typing import Any

import numpy as np
from tf2onnx import utils
from tf2onnx.handler import tf_op


@tf_op("Erfc")
class Erfc:
    """1 - erf(x), which TensorFlow uses for the exact GELU of transformers."""

    @classmethod
    def version_9(cls, ctx: Any, node: Any, **kwargs: Any) -> None:
        """Replaces the node by 1 - `Erf`, which ONNX has from opset 9 on."""
        (output,) = node.output
        kind, shape = ctx.get_dtype(output), ctx.get_shape(output)
        (given,) = node.input
        ctx.remove_node(node.name)
        one = ctx.make_const(
            utils.make_name("one"), np.array(1, utils.map_onnx_to_numpy_type(kind))
        )
        erf = ctx.make_node("Erf", [given], shapes=[shape], dtypes=[kind])
        ctx.make_node(
            "Sub",
            [one.output[0], erf.output[0]],
            outputs=[output],
            shapes=[shape],
            dtypes=[kind],
        )
