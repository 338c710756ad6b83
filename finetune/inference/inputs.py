"""From examples to model inputs, as in training: images decoded in parallel, texts tokenized, arrays."""

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
from finetune.datasets.python.data import fitting_inputs, wanted_inputs
from finetune.datasets.readers import ImageReader, shortened
from finetune.errors import ConfigError
from finetune.inference.examples import Example, Failure
from finetune.inference.trained import TrainedModel
from finetune.training.tracing import traced

Prepared = tuple[Example, Any] | Failure
"""An example with what is made of it alone."""

_PILLOW = threading.Lock()  # it is told to be quiet through what all threads share


class Inputs(Protocol):
    """What makes the inputs of a model."""

    def prepared(self, examples: Iterable[Example | Failure]) -> Iterator[Prepared]:
        """Yields what is made of each example alone, in their order; no more are taken than are needed."""
        ...

    def batch(self, prepared: Sequence[Any]) -> Any:
        """Returns what the model takes: (batch, …) of what was made of each example."""
        ...


def inputs_of(trained: TrainedModel, ahead: int) -> Inputs:
    """Returns what makes the inputs of a trained model.

    Args:
        trained: the model.
        ahead: images that are read before they are asked for.
    """
    if trained.image_size is not None:
        return ImageInputs(ImageReader(trained.image_size, trained.image_converter), ahead)
    return TextInputs(trained.preprocessor) if trained.kind == "text" else ArrayInputs(trained)


class ImageInputs:
    """Reads, decodes and resizes several images at once; each of two programs is traced once.

    Args:
        reader: of the model's images.
        ahead: images that are read before they are asked for.
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
                for each in examples:
                    waiting.append(pool.submit(self._prepare, each))
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
    """Returns an image as TensorFlow decodes it the way it is meant to be seen, and that way."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would not end
            raise BadImage("no regular file")
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
    """Tokenizes the texts of a batch at once.

    Args:
        preprocessor: KerasHub's, of a text classifier.
    """

    def __init__(self, preprocessor: Any) -> None:
        self._tokenize = tokenize_of(preprocessor)

    def prepared(self, examples: Iterable[Example | Failure]) -> Iterator[Prepared]:
        """See `Inputs`; the text."""
        for each in examples:
            yield each if isinstance(each, Failure) else (each, each.content)

    def batch(self, prepared: Sequence[Any]) -> Any:
        """See `Inputs`; a dictionary of (batch, tokens)."""
        return shortened(self._tokenize(prepared))


def tokenize_of(preprocessor: Any) -> Callable[[Sequence[str]], dict[str, np.ndarray]]:
    """Returns what makes tokens of texts: a dictionary of (texts, tokens), as in training.

    Outside of a traced function KerasHub has another program, which makes other tokens of letters that
    are in no vocabulary.

    Args:
        preprocessor: KerasHub's, of a text classifier.
    """
    spec = [tf.TensorSpec((None,), tf.string)]
    program = traced(lambda each: preprocessor(each), spec)

    def tokenize(texts: Sequence[str]) -> dict[str, np.ndarray]:
        made = program(tf.constant(list(texts), tf.string))
        return {name: each.numpy() for name, each in made.items()}

    return tokenize


class ArrayInputs:
    """Hands numbers on; a file holds one example or several.

    Args:
        trained: a model of the user's own.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self._model, self._preprocessor = trained.model, trained.preprocessor

    def prepared(self, examples: Iterable[Example | Failure]) -> Iterator[Prepared]:
        """See `Inputs`; the rows of each file."""
        for each in examples:
            if isinstance(each, Failure) or not isinstance(each.content, Path):
                yield each if isinstance(each, Failure) else (each, each.content)
            else:
                yield from self._rows(each.source, each.content)

    def batch(self, prepared: Sequence[Any]) -> Any:
        """See `Inputs`."""
        return tf.nest.map_structure(lambda *rows: np.stack(rows), *prepared)

    def _rows(self, source: str, path: Path) -> Iterator[Prepared]:
        first = tf.nest.flatten(wanted_inputs(self._model))[0]
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
            row = tf.nest.map_structure(lambda each, at=index: each[at], rows)
            name = source if single else f"{source}:{index + 1}"
            yield Example(name, row), row
