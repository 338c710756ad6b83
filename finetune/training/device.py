"""Device, precision, determinism and seeds: sets the process-wide state of a run in one place."""

import gc
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import keras
import numpy as np
import tensorflow as tf

from finetune.errors import ConfigError
from finetune.keras_internals import is_op_deterministic, set_op_determinism
from finetune.startup import native_stderr_held

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """The device of a run.

    Args:
        kind: ``cpu`` or ``gpu``.
        names: Name of each GPU, or ``cpu``.
        precision: Keras dtype policy.
        deterministic: Whether TensorFlow uses only deterministic ops.
    """

    kind: str
    names: tuple[str, ...]
    precision: str
    deterministic: bool

    def as_record(self) -> dict[str, object]:
        """Returns the entry of run.json."""
        return {**asdict(self), "names": list(self.names)}


def prepare(
    device: str, precision: str | None, deterministic: bool, seed: int, clear: bool = True
) -> Device:
    """Prepares the process for one run, and clears the state of an earlier one.

    Sets the global dtype policy, the seeds of Python, NumPy and Keras, op determinism and memory
    growth; with a precision also Keras' floatx and image data format. Clears Keras' global state, so
    that the jobs of a sweep do not affect each other.

    Args:
        device: ``auto``, ``cpu`` or ``gpu``.
        precision: ``auto`` (``mixed_float16`` on a GPU, else ``float32``) or the name of a policy;
            None: the current policy.
        deterministic: Whether to use only deterministic ops.
        seed: Seed in 0..2**32 - 1.
        clear: Whether Keras' global state is cleared, which must not happen in a user's process.

    Raises:
        ConfigError: If the config asks for a GPU and there is none, or the process has already
            computed on another kind of device.
    """
    if clear:
        keras.backend.clear_session()
        gc.collect()
    with native_stderr_held():
        gpus = [] if device == "cpu" else tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise ConfigError(
            "runtime.device must be auto or cpu on this machine: TensorFlow sees no GPU. "
            "Received: gpu. Install the [gpu] extra and a driver, or use runtime.device=auto."
        )
    _show_only(gpus)
    kind = "gpu" if gpus else "cpu"
    policy = keras.config.dtype_policy().name if precision is None else precision
    if precision is not None:  # the config says all: ~/.keras/keras.json is not the run's
        keras.config.set_floatx("float32")
        use_channels_last()
    if precision == "auto":
        policy = "mixed_float16" if gpus else "float32"
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(seed)
    set_op_determinism(deterministic)  # also off: an earlier job may have turned it on
    names = tuple(gpu.name for gpu in gpus) or ("cpu",)
    exact = "deterministic" if deterministic else "not deterministic"
    log.info("device %s (%s), precision %s, %s", kind, ", ".join(names), policy, exact)
    return Device(kind, names, policy, deterministic)


def use_channels_last() -> None:
    """Sets the image data format of this program, whatever keras.json says."""
    given = keras.config.image_data_format()
    if given != "channels_last":
        log.warning(
            "image_data_format=%s, of keras.json or set_image_data_format, is not used: images are read "
            "as (height, width, channels), as pretrained weights expect them",
            given,
        )
        keras.config.set_image_data_format("channels_last")


@contextmanager
def state_kept() -> Iterator[None]:
    """Restores the process-wide state that `prepare` sets, as far as it can be read."""
    policy, deterministic = keras.config.dtype_policy(), is_op_deterministic()
    floatx, image_format = keras.config.floatx(), keras.config.image_data_format()
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_image_data_format(image_format)
        keras.config.set_dtype_policy(policy)
        random.setstate(states[0])
        np.random.set_state(states[1])
        set_op_determinism(deterministic)


def _show_only(gpus: list) -> None:
    try:
        tf.config.set_visible_devices(gpus, "GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:  # TensorFlow refuses once a device has been used
        if tf.config.get_visible_devices("GPU") != gpus:
            raise ConfigError(
                "runtime.device must be the same for all jobs of one sweep. Received: another kind "
                f"of device than the jobs before ({error}). Run one sweep for each device."
            ) from error
