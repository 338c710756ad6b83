"""Reading of tensors in Hugging Face and timm directories for KerasHub's converters."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import safe_open

_OLD_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}


class AbsentTensorError(LookupError):
    """A converter needs a tensor that no file of the directory contains."""


class Tensors(ExitStack):
    """A loader for KerasHub's converters that finds tensors by name and assigns them to variables.

    KerasHub's own loader finds the names of the bare model for some families only, and stops at the
    first missing tensor. This one leaves such a variable unchanged, and
    `finetune.backbones.coverage` judges which variables were not assigned.

    Args:
        directory: Directory with ``model.safetensors``, or an index of several files.
        prefix: Prefix of the names that the converter asks for, which files of the bare model lack.
        exact: Whether only the exact name matches, as in timm's files.
    """

    def __init__(self, directory: Path, prefix: str = "", exact: bool = False) -> None:
        super().__init__()
        self._prefix, self._exact = prefix, exact
        self._files: dict[str, Any] = {}
        for file in _weight_files(directory):
            opened = self.enter_context(safe_open(file, framework="np"))
            self._files |= dict.fromkeys(opened.keys(), opened)

    def get_tensor(self, hf_weight_key: str) -> Any:
        """Returns a tensor as an array.

        Raises:
            AbsentTensorError: If no file contains it.
        """
        for name in self._names(hf_weight_key):
            if name in self._files:
                return self._files[name].get_tensor(name)
        raise AbsentTensorError(hf_weight_key)

    def port_weight(
        self, keras_variable: Any, hf_weight_key: str, hook_fn: Callable[..., Any] | None = None
    ) -> None:
        """Assigns a tensor, reshaped by `hook_fn`, to a variable, if the tensor exists."""
        try:
            tensor = self.get_tensor(hf_weight_key)
        except AbsentTensorError:
            return
        if hook_fn is not None:
            tensor = hook_fn(tensor, list(keras_variable.shape))
        keras_variable.assign(tensor)

    def _names(self, asked: str) -> Iterator[str]:
        """Yields the names that a tensor may have: the bare model's, or below any prefix."""
        yield asked
        if self._exact:
            return
        bare = asked.removeprefix(self._prefix)
        old = next((bare.replace(*pair) for pair in _OLD_NAMES.items() if pair[0] in bare), bare)
        for name in dict.fromkeys((bare, old)):
            yield name
            # Shortest prefix first, to choose consistently between two encoders in one file.
            yield from sorted((n for n in self._files if n.endswith(f".{name}")), key=len)


def _weight_files(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return [directory / "model.safetensors"]
    shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [directory / shard for shard in sorted(set(shards))]
