"""Turns examples into model inputs as in training: decoded images, tokenized texts, or arrays."""

import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from finetune.backbones.own_preprocessing import preprocessed
from finetune.datasets.bad_samples import unreadable
from finetune.datasets.images.conversion import to_png
from finetune.datasets.images.decoding import PARALLEL, decoded
from finetune.datasets.images.headers import CONVERT, DAMAGED, UPRIGHT, BadImage, way_to_decode
from finetune.datasets.python.data import fitting_inputs
from finetune.datasets.readers import ImageReader, shortened
from finetune.errors import ConfigError
from finetune.inference.examples import Example, Failure
from finetune.inference.trained import TrainedModel
from finetune.keras_internals import input_structure
from finetune.training.tracing import traced

Prepared = tuple[Example, Any] | Failure
"""An example with its prepared input, or the reason why there is none."""

_PILLOW = threading.Lock()  # Pillow's warnings are silenced through process-wide state


class Inputs(Protocol):
    """Makes the inputs of a model in two steps: each example alone, then a batch of them."""

    def prepared(self, examples: Iterable[Example | Failure]) -> Iterator[Prepared]:
        """Yields the prepared input of each example in order, and reads ahead only as configured."""
        ...

    def batch(self, prepared: Sequence[Any]) -> Any:
        """Returns the model's inputs, (batch, …), for a sequence of prepared inputs."""
        ...


def inputs_of(trained: TrainedModel, ahead: int) -> Inputs:
    """Returns the `Inputs` of a trained model.

    Args:
        trained: Model to make inputs for.
        ahead: Number of images to read ahead.
    """
    if trained.image_size is not None:
        return ImageInputs(ImageReader(trained.image_size, trained.image_converter), ahead)
    return TextInputs(trained.preprocessor) if trained.kind == "text" else ArrayInputs(trained)


class ImageInputs:
    """Reads, decodes and resizes images in parallel, with one traced function for files and for pixels.

    Args:
        reader: Reader that resizes and scales images for the model.
        ahead: Number of images to read ahead.
    """

    def __init__(self, reader: ImageReader, ahead: int) -> None:
        def from_bytes(data: Any, way: Any) -> tf.Tensor:
            return reader.prepared(decoded(data, way))

        encoded = [tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.int32)]
        pixels = [tf.TensorSpec((None, None, 3), tf.float32)]
        self._ahead = ahead
        self._from_bytes = traced(from_bytes, encoded)
        self._from_pixels = traced(reader.prepared, pixels)

    def prepared(self, examples: Iterable[Example | Failure]) -> Iterator[Prepared]:
        """See `Inputs`; (height, width, 3) float32."""
        with ThreadPoolExecutor(PARALLEL) as pool:
            waiting: deque[Future[Prepared]] = deque()
            try:
                for example in examples:
                    waiting.append(pool.submit(self._prepare, example))
                    if len(waiting) > self._ahead:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def batch(self, prepared: Sequence[Any]) -> Any:
        """See `Inputs`."""
        return np.stack(prepared)

    def _prepare(self, example: Example | Failure) -> Prepared:
        if isinstance(example, Failure):
            return example
        try:
            if isinstance(example.content, Path):
                return example, self._from_bytes(*_plain(example.content)).numpy()
            return example, self._from_pixels(_three_channels(example.content)).numpy()
        except BadImage as error:
            return Failure(example.source, str(error))
        except tf.errors.InvalidArgumentError:
            return Failure(example.source, DAMAGED)


def _plain(path: Path) -> tuple[bytes, int]:
    """Returns the bytes of an image that TensorFlow can decode, and how to decode them."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would never end
            raise BadImage("not a regular file")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise BadImage(unreadable(error)) from error
    way = way_to_decode(data)
    if way != CONVERT:
        return data, way
    with _PILLOW:
        (png,) = to_png([data], threads=1)
    if isinstance(png, BadImage):
        raise png
    return png, UPRIGHT


def _three_channels(image: np.ndarray) -> np.ndarray:
    """Returns (height, width), or (height, width, 1 or 3), as (height, width, 3) float32."""
    image = image[..., None] if image.ndim == 2 else image
    return np.repeat(image, 3 // image.shape[-1], axis=-1).astype(np.float32)


class TextInputs:
    """Tokenizes the texts of a batch together.

    Args:
        preprocessor: KerasHub preprocessor of a text classifier.
    """

    def __init__(self, preprocessor: Any) -> None:
        self._tokenize = tokenize_of(preprocessor)

    def prepared(self, examples: Iterable[Example | Failure]) -> Iterator[Prepared]:
        """See `Inputs`; the text."""
        for example in examples:
            yield example if isinstance(example, Failure) else (example, example.content)

    def batch(self, prepared: Sequence[Any]) -> Any:
        """See `Inputs`; a dictionary of (batch, tokens)."""
        return shortened(self._tokenize(prepared))


def tokenize_of(preprocessor: Any) -> Callable[[Sequence[str]], dict[str, np.ndarray]]:
    """Returns a function from texts to a dictionary of (texts, tokens) arrays, as in training.

    It is traced, because KerasHub uses another implementation in eager mode, which maps letters
    outside the vocabulary to other tokens.

    Args:
        preprocessor: KerasHub preprocessor of a text classifier.
    """
    spec = [tf.TensorSpec((None,), tf.string)]
    program = traced(lambda texts: preprocessor(texts), spec)

    def tokenize(texts: Sequence[str]) -> dict[str, np.ndarray]:
        made = program(tf.constant(list(texts), tf.string))
        return {name: tokens.numpy() for name, tokens in made.items()}

    return tokenize


class ArrayInputs:
    """Passes arrays on; a file holds one example or a batch of them.

    Args:
        trained: User's own model.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self._model, self._preprocessor = trained.model, trained.preprocessor

    def prepared(self, examples: Iterable[Example | Failure]) -> Iterator[Prepared]:
        """See `Inputs`; the rows of each file."""
        for example in examples:
            if isinstance(example, Failure):
                yield example
            elif isinstance(example.content, Path):
                yield from self._rows(example.source, example.content)
            else:
                yield example, example.content

    def batch(self, prepared: Sequence[Any]) -> Any:
        """See `Inputs`."""
        return tf.nest.map_structure(lambda *rows: np.stack(rows), *prepared)

    def _rows(self, source: str, path: Path) -> Iterator[Prepared]:
        first = tf.nest.flatten(input_structure(self._model))[0]
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            single = array.ndim == (0 if array.dtype.kind in "US" else len(first.shape) - 1)
            given = {"it": (array[None] if single else array, None)}
            given = preprocessed(given, self._preprocessor)
            rows = fitting_inputs("it", given["it"][0], self._model)
        except (OSError, EOFError, ValueError) as error:
            yield Failure(source, str(error).partition("\n")[0] or DAMAGED)
            return
        except ConfigError as error:
            yield Failure(source, str(error))
            return
        for index in range(len(tf.nest.flatten(rows)[0])):
            row = tf.nest.map_structure(lambda array, at=index: array[at], rows)
            name = source if single else f"{source}:{index + 1}"
            yield Example(name, row), row
