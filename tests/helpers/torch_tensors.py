"""Keras layers as tensors in the names and layouts of PyTorch, and directories that hold them."""

import json

import numpy as np
from safetensors.numpy import save_file


def array(variable):
    """Returns the value of a Keras variable."""
    import keras

    return np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value))


def shake(backbone, seed=0):
    """Draws every weight at random, also those that start as zeros or ones."""
    random = np.random.default_rng(seed)
    for weight in backbone.weights:
        weight.assign(random.uniform(0.1, 1.0, weight.shape).astype("float32"))
    return backbone


def norm(layer, name):
    """Returns the tensors of a normalization."""
    return {f"{name}.weight": array(layer.gamma), f"{name}.bias": array(layer.beta)}


def linear(layer, name, inputs):
    """Returns those of a dense layer: PyTorch keeps (outputs, inputs), Keras may split either into heads."""
    kernel = array(layer.kernel).reshape(inputs, -1)
    return {f"{name}.weight": kernel.T, f"{name}.bias": array(layer.bias).reshape(-1)}


def convolution(layer, name, bias=False):
    """Returns those of a convolution, with its bias where it has one."""
    found = {f"{name}.weight": array(layer.kernel).transpose(3, 2, 0, 1)}
    return {**found, f"{name}.bias": array(layer.bias)} if bias else found


def batch_norm(layer, name):
    """Returns those of a BatchNorm with its statistics."""
    statistics = {"running_mean": layer.moving_mean, "running_var": layer.moving_variance}
    return norm(layer, name) | {f"{name}.{k}": array(v) for k, v in statistics.items()}


def write(directory, config, tensors, **files):
    """Writes config.json, model.safetensors and other files, JSON or text, and returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in {"config.json": config, **files}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (directory / name).write_text(text, encoding="utf-8")
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    save_file(tensors, str(directory / "model.safetensors"), metadata={"format": "pt"})
    return directory


def encoder_block(block, name, hidden, inner):
    """Returns those of a block of BERT, RoBERTa or XLM-RoBERTa."""
    attention = block._self_attention_layer
    return {
        **linear(attention.query_dense, f"{name}.attention.self.query", hidden),
        **linear(attention.key_dense, f"{name}.attention.self.key", hidden),
        **linear(attention.value_dense, f"{name}.attention.self.value", hidden),
        **linear(attention.output_dense, f"{name}.attention.output.dense", hidden),
        **norm(block._self_attention_layer_norm, f"{name}.attention.output.LayerNorm"),
        **linear(block._feedforward_intermediate_dense, f"{name}.intermediate.dense", hidden),
        **linear(block._feedforward_output_dense, f"{name}.output.dense", inner),
        **norm(block._feedforward_layer_norm, f"{name}.output.LayerNorm"),
    }
