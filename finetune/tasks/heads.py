"""Classification heads on a backbone: KerasHub's own for the family, or a linear one."""

import inspect
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from finetune.backbones.coverage import shown
from finetune.backbones.families import family_of
from finetune.backbones.loading import LoadedBackbone
from finetune.errors import ConfigError

_LOWEST = -1e30  # below any feature; JSON has no infinity


def build_task(
    loaded: LoadedBackbone, num_classes: int, *, pooling: str, dropout: float, seed: int
) -> keras.Model:
    """Builds the task model: the backbone and a new head that outputs logits.

    Args:
        loaded: Backbone from `finetune.backbones.loading.load`; it is shared, not copied.
        num_classes: Number of outputs, at least 2.
        pooling: What the head sees. ``auto`` is the pooling of KerasHub's classifier for the
            family, or the first token if there is none (DINOv2, DINOv3). ``avg`` and ``max`` pool
            over positions; over the tokens of a text they leave padding out, as sentence embeddings
            do (Reimers & Gurevych 2019, section 3). ``cls`` is the first token.
        dropout: Dropout rate before the output layer, in [0, 1).
        seed: Seed of the head's initial weights, independent of all earlier draws.

    Returns:
        A KerasHub classifier without a preprocessor, or a functional model; not compiled.

    Raises:
        ConfigError: If the backbone has no such option, or the head would use weights that are not
            in the checkpoint.
    """
    with _seeded(seed):
        task = _task(loaded, num_classes, pooling, dropout)
    used = {weight.path for weight in task.weights}
    absent = [path for path in loaded.coverage.absent if path in used]
    if absent and loaded.coverage.loaded > 0:
        raise ConfigError(
            "head.pooling must use only weights that are in the checkpoint. Received: "
            f"{pooling} for {loaded.name}, whose files lack {shown(absent)}, as those of masked "
            "language models do. Set head.pooling=avg, max or cls."
        )
    return task


def _task(loaded: LoadedBackbone, num_classes: int, pooling: str, dropout: float) -> keras.Model:
    family = family_of(loaded.backbone)
    cls = None if family is None else family.classifier
    if cls is None or (loaded.kind == "text" and pooling != "auto"):
        return _token_task(loaded.backbone, num_classes, pooling, dropout)
    return cls(
        backbone=loaded.backbone,
        num_classes=num_classes,
        preprocessor=None,  # the data are already preprocessed
        compile=False,
        **_head_options(cls, pooling, dropout),
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds Python's `random`, which seeds Keras' initializers, and restores it."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _head_options(cls: Any, pooling: str, dropout: float) -> dict[str, Any]:
    """Returns the constructor arguments of `cls`; classes name the options differently."""
    parameters = inspect.signature(cls.__init__).parameters
    options: dict[str, Any] = {"activation": None} if "activation" in parameters else {}
    key = next((name for name in ("pooling", "global_pool") if name in parameters), None)
    if pooling != "auto":
        # Token backbones (ViT, DeiT) call the average over tokens "gap" and have no maximum.
        tokens = key is not None and parameters[key].default == "token"
        valid = {"avg": "avg", "max": "max"} if key is not None else {"avg": "avg"}
        valid = {"avg": "gap", "cls": "token"} if tokens else valid
        if pooling not in valid:
            raise ConfigError(
                f"head.pooling must be {' or '.join(['auto', *valid])} for {cls.__name__}. "
                f"Received: {pooling}. Set head.pooling=auto."
            )
        if key is not None:
            options[key] = valid[pooling]
    key = next((name for name in ("dropout", "drop_rate") if name in parameters), None)
    if key is not None:
        options[key] = dropout
    elif dropout > 0:
        raise ConfigError(
            f"head.dropout must be 0 for {cls.__name__}, whose head has no dropout. "
            f"Received: {dropout}. Set head.dropout=0."
        )
    return options


def _token_task(
    backbone: keras.Model, num_classes: int, pooling: str, dropout: float
) -> keras.Model:
    """Puts a linear head on pooled tokens and drops unused parts of the backbone."""
    outputs: Any = backbone.output
    tokens = outputs["sequence_output"] if isinstance(outputs, dict) else outputs
    if len(tokens.shape) != 3:
        raise ConfigError(
            "head.pooling must be used with a backbone that outputs tokens. Received: "
            f"{pooling} for {backbone.name}, which outputs {tuple(tokens.shape)}. "
            "Use another backbone."
        )
    trunk = backbone
    if isinstance(outputs, dict):
        trunk = keras.Model(backbone.input, tokens, name=backbone.name)
    inputs = trunk.input if len(trunk.inputs) > 1 else trunk.inputs[0]
    mask = inputs.get("padding_mask") if isinstance(inputs, dict) else None
    # Class and register tokens precede those of the image's patches.
    first = 1 + getattr(backbone, "num_register_tokens", 0) if mask is None else 0
    pooled = _pooled(trunk(trunk.input), mask, first, pooling)
    x = keras.layers.Dropout(dropout, name="output_dropout")(pooled)
    logits = keras.layers.Dense(num_classes, name="logits", dtype="float32")(x)
    return keras.Model(inputs, logits, name=f"{backbone.name}_classifier")


def _pooled(tokens: Any, mask: Any, first: int, pooling: str) -> Any:
    """Returns one vector from (batch, tokens, features), by layers that Keras alone can load.

    Args:
        tokens: Tokens of the backbone.
        mask: (batch, tokens), 0 at padding; None if there is none.
        first: Number of tokens before those that are pooled.
        pooling: ``avg``, ``max``, or another, which takes the first token.
    """
    if pooling == "avg":
        given = {} if mask is None else {"mask": mask}
        return keras.layers.GlobalAveragePooling1D(name="pooler")(tokens[:, first:], **given)
    if pooling == "max":
        if mask is not None:  # Keras' maximum takes no mask
            seen: Any = keras.ops.expand_dims(keras.ops.cast(mask, "bool"), -1)
            tokens = keras.ops.where(seen, tokens, _LOWEST)
        return keras.layers.GlobalMaxPooling1D(name="pooler")(tokens[:, first:])
    return tokens[:, 0]
