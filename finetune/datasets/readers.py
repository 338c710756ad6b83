"""Readers turn the rows of a split into the inputs of a model: images, texts, or plain numbers.

A reader is made for one backbone, and keeps what it made of a split as long as the split lives.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import tensorflow as tf

from finetune.datasets.bad_samples import refusal
from finetune.datasets.dataset import Split
from finetune.datasets.images.augmentation import Augmentation, Mix
from finetune.datasets.images.cleaning import damaged_images
from finetune.datasets.images.decoding import PARALLEL, decoded

log = logging.getLogger(__name__)

CACHE_BYTES = 256 * 2**20  # decoded images up to this size are kept in memory
_TOKENIZE_ROWS = 256
Read = Callable[[tf.data.Dataset, Any], tf.data.Dataset]
"""(rows of a split, int64; epoch, int64 scalar) -> batches of inputs, in the order of the rows."""
Prepare = Callable[[Any], Any]


class Reader(Protocol):
    """Makes model inputs of the rows of a split."""

    augmentation: str | None
    """Description of how the training split is augmented, with the seed; None if it is not."""
    mix: Mix | None
    """Mixes the examples of a training batch; None does not mix."""

    def open(
        self, split: Split, batch_size: int, *, augmented: bool = False, keep: bool = True
    ) -> Read:
        """Returns a function that reads a split.

        Args:
            split: Split of examples that this reader can read.
            batch_size: Number of rows in a batch, at least 1.
            augmented: Whether examples are augmented for the epoch.
            keep: Whether another pass will follow, so that decoded images are worth keeping.
        """
        ...


class ImageReader:
    """Decodes, resizes, augments and scales images.

    Args:
        image_size: (height, width) in pixels.
        converter: KerasHub image converter, (height, width, 3) uint8 -> model input of
            `image_size`; None resizes bilinearly.
        augmentation: Augmentation of each training image between resizing and scaling; None for
            none.
        mix: Mixing of the images in a training batch; None for none.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        converter: Any = None,
        augmentation: Augmentation | None = None,
        mix: Mix | None = None,
    ) -> None:
        self.augmentation = None if augmentation is None else augmentation.description
        self.mix = mix
        self._augment = augmentation
        self._shape = (*image_size, 3)
        self._resize, self._scale = _halves(converter, image_size)
        self._encoded: WeakKeyDictionary[Split, tf.Tensor] = WeakKeyDictionary()
        # Decoded images live as long as their split: phases and epochs share them.
        self._decoded: WeakKeyDictionary[Split, dict[bool, tf.Tensor]] = WeakKeyDictionary()

    def open(
        self, split: Split, batch_size: int, *, augmented: bool = False, keep: bool = True
    ) -> Read:
        """See `Reader`; reads images (batch, height, width, 3) float32."""
        augment: Any = self._augment if augmented else None
        fits = keep and split.num_examples * int(np.prod(self._shape)) * 4 <= CACHE_BYTES
        images = self._decoded_once(split, augment is None) if fits else None
        if images is not None and augment is None:
            return _gathered(lambda rows: tf.gather(images, rows), batch_size)
        decode = self._decoder(split, augment is None) if images is None else images.__getitem__

        def read(rows: tf.data.Dataset, epoch: Any) -> tf.data.Dataset:
            if augment is None:
                return rows.map(decode, PARALLEL).batch(batch_size)
            augmented = rows.map(lambda row: augment(decode(row), epoch, row), PARALLEL)
            return augmented.batch(batch_size).map(self._scale)

        return read

    def _decoder(self, split: Split, scaled: bool) -> Callable[[tf.Tensor], tf.Tensor]:
        """Returns a function from a row of `split` to its decoded and resized image."""
        if split not in self._encoded:
            with tf.device("CPU:0"):  # captured constants would otherwise fill the GPU
                self._encoded[split] = _constant(split.examples)
        pixels = _pixels_of(self._encoded[split], split.ways)

        def resized(row: tf.Tensor) -> tf.Tensor:
            image = tf.cast(self._resize(pixels(row)), tf.float32)
            return tf.ensure_shape(image, self._shape)

        return (lambda row: self.prepared(pixels(row))) if scaled else resized

    def prepared(self, image: tf.Tensor) -> tf.Tensor:
        """Returns an image as the model takes it, resized and scaled: `image_size` float32.

        Args:
            image: (height, width, 3) in 0..255.
        """
        scaled = tf.cast(self._scale(self._resize(image)), tf.float32)
        return tf.ensure_shape(scaled, self._shape)

    def pictures(self, split: Split, rows: np.ndarray, epoch: int | None = None) -> np.ndarray:
        """Returns images as the model sees them, before scaling: (n, height, width, 3) in 0..255.

        Args:
            split: Split of images.
            rows: Rows of the split.
            epoch: Epoch whose augmentation is applied, if the reader has one; None applies none.
        """
        few = split.take(rows)
        resized = self._decoder(few, scaled=False)
        augment: Any = self._augment
        with tf.device("CPU:0"):
            if augment is None or epoch is None:
                return np.stack([resized(tf.constant(i)).numpy() for i in range(len(rows))])
            order = tf.data.Dataset.from_tensor_slices((np.arange(len(rows)), rows))
            now = tf.constant(epoch, tf.int64)
            seen = order.map(lambda i, row: augment(resized(i), now, row), PARALLEL)
            return np.stack(list(seen.as_numpy_iterator()))

    def _decoded_once(self, split: Split, scaled: bool) -> tf.Tensor:
        """Returns all images, (n, height, width, 3) float32, decoded at first use."""
        known = self._decoded.setdefault(split, {})
        if scaled not in known:
            every = tf.data.Dataset.range(split.num_examples).map(
                self._decoder(split, scaled), PARALLEL
            )
            with tf.device("CPU:0"):
                known[scaled] = every.batch(split.num_examples).get_single_element()
        return known[scaled]


def require_decodable(splits: Iterable[Split]) -> None:
    """Looks for images that cannot be decoded, after decoding has failed.

    Raises:
        ConfigError: If there are any; it counts all files and names at most 20.
    """
    bad = damaged_images(splits)
    if bad:
        raise refusal(bad)


@contextmanager
def damage_named(splits: Iterable[Split]) -> Iterator[None]:
    """Names the images that could not be decoded, which TensorFlow's error does not do."""
    try:
        yield
    except tf.errors.InvalidArgumentError:
        require_decodable(splits)
        raise


def _halves(converter: Any, size: tuple[int, int]) -> tuple[Prepare, Prepare]:
    """Returns the function that resizes to 0..255 and the one that scales, to augment in between.

    If KerasHub's converter crops a square and resizes it, this is done here with the same
    arithmetic, bit for bit, on the bytes of the image. Keras would first convert the whole image to
    floats.
    """
    if converter is None:
        return (lambda image: tf.image.resize(image, size)), lambda image: image
    config, make = converter.get_config(), type(converter).from_config
    scale = make(config | {"image_size": None})
    if size[0] != size[1] or not config["crop_to_aspect_ratio"]:
        whole = make(config | {"scale": None, "offset": None})
        return (lambda image: whole(tf.cast(image, tf.float32))), scale  # padding takes no uint8
    method, antialias = config["interpolation"], config["antialias"]

    def resize_square(image: tf.Tensor) -> tf.Tensor:
        height, width = tf.shape(image)[0], tf.shape(image)[1]
        side = tf.minimum(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = image[top : top + side, left : left + side]
        return tf.image.resize(square, size, method=method, antialias=antialias)

    return resize_square, scale


def _constant(examples: np.ndarray) -> tf.Tensor:
    if examples.dtype == object:
        return tf.constant(list(examples), dtype=tf.string)
    return tf.constant(examples)


def _pixels_of(examples: tf.Tensor, ways: np.ndarray | None) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function from a row to its image, (height, width, 3) in 0..255."""
    if examples.dtype != tf.string:
        return lambda row: _three_channels(examples[row])
    if ways is None:
        return lambda row: decoded(examples[row])
    with tf.device("CPU:0"):
        constant = tf.constant(ways)
    return lambda row: decoded(examples[row], constant[row])


def _three_channels(image: tf.Tensor) -> tf.Tensor:
    return image if image.shape[-1] == 3 else tf.repeat(image, 3, axis=-1)


class TextReader:
    """Tokenizes the texts of all splits at once, when the first split is opened.

    Tokens beyond the longest of all texts are padding that the model ignores; they are dropped if
    the model takes a padding mask.

    Args:
        preprocessor: KerasHub preprocessor of a text classifier: texts -> a dictionary of (batch,
            tokens) token ids and masks.
        splits: All splits of the dataset.
    """

    augmentation: str | None = None
    mix: Mix | None = None

    def __init__(self, preprocessor: Any, splits: Mapping[str, Split]) -> None:
        self._preprocessor = preprocessor
        self._splits = list(splits.values())
        self._tokens: dict[int, dict[str, np.ndarray]] = {}

    def open(
        self, split: Split, batch_size: int, *, augmented: bool = False, keep: bool = True
    ) -> Read:
        """See `Reader`; reads a dictionary of (batch, tokens), as the preprocessor makes it."""
        if not self._tokens:
            self._tokenize()
        return _gathered(gather_of(self._tokens[id(split)]), batch_size)

    def tokens(self, texts: Sequence[str]) -> list[tuple[list[str], int]]:
        """Returns the tokens read of each text, and how many the whole text would take."""
        tokenizer = self._preprocessor.tokenizer
        packed = self._preprocessor(tf.constant([*texts, ""]))
        ids = np.asarray(packed["token_ids"])
        mask = packed.get("padding_mask")
        read = ids != tokenizer.pad_token_id if mask is None else np.asarray(mask) > 0
        added = int(read[-1].sum())  # those that mark the start and the end
        whole = [len(row) + added for row in tokenizer(list(texts))]
        kept = [ids[row][read[row]] for row in range(len(texts))]
        return [
            ([str(tokenizer.id_to_token(int(token))) for token in row], max(number, len(row)))
            for row, number in zip(kept, whole, strict=True)
        ]

    def _tokenize(self) -> None:
        began = time.perf_counter()
        texts = np.concatenate([split.examples for split in self._splits])
        batches = tf.data.Dataset.from_tensor_slices(_constant(texts)).batch(_TOKENIZE_ROWS)
        parts = list(batches.map(self._preprocessor, PARALLEL).as_numpy_iterator())
        tokens: dict[str, np.ndarray] = {
            key: np.concatenate([part[key] for part in parts]) for key in parts[0]
        }
        mask = tokens.get("padding_mask")
        if mask is not None and (share := (mask.sum(1) == mask.shape[1]).mean()):
            log.info(
                "%.1f %% of the texts have %d tokens or were cut to them",
                *(100 * share, mask.shape[1]),
            )
        tokens = shortened(tokens)
        first = 0
        for split in self._splits:
            rows = slice(first, first + split.num_examples)
            self._tokens[id(split)] = {key: value[rows] for key, value in tokens.items()}
            first += split.num_examples
        length, seconds = tokens["token_ids"].shape[1], time.perf_counter() - began
        log.info("tokenized %d texts to %d tokens each in %.1f s", len(texts), length, seconds)


def shortened(tokens: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Drops tokens beyond the longest text if a mask says that the model ignores them.

    Args:
        tokens: Dictionary of (n, tokens) arrays, as a preprocessor makes it.
    """
    mask = tokens.get("padding_mask")
    if mask is None:
        return tokens
    longest = -(-int(mask.sum(1).max()) // 8) * 8  # the kernels' vectors are that wide
    return {key: value[:, :longest] for key, value in tokens.items()}


class ArrayReader:
    """Passes numbers on, for models that bring their own preprocessing.

    Args:
        dtypes: Names of the dtypes that the model takes, in the structure of the examples; batches
            are cast to them. None keeps the dtypes of the examples.
    """

    augmentation: str | None = None
    mix: Mix | None = None

    def __init__(self, dtypes: Any = None) -> None:
        self._dtypes = dtypes

    def open(
        self, split: Split, batch_size: int, *, augmented: bool = False, keep: bool = True
    ) -> Read:
        """See `Reader`; reads (batch, …) of the model's dtype."""
        gather, dtypes = gather_of(split.examples), self._dtypes
        if dtypes is None:
            return _gathered(gather, batch_size)
        return _gathered(
            lambda rows: tf.nest.map_structure(tf.cast, gather(rows), dtypes), batch_size
        )


def gather_of(arrays: Any) -> Callable[[Any], Any]:
    """Returns a function from rows to those rows of an array, or of each array in a structure."""
    with tf.device("CPU:0"):  # captured constants would otherwise fill the GPU
        constants = tf.nest.map_structure(tf.constant, arrays)
    return lambda rows: tf.nest.map_structure(lambda array: tf.gather(array, rows), constants)


def _gathered(gather: Callable[[tf.Tensor], Any], batch_size: int) -> Read:
    return lambda rows, epoch: rows.batch(batch_size).map(gather)
