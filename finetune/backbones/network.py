"""Checks within seconds whether something can be downloaded, instead of hanging."""

import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from finetune.errors import ConfigError

KAGGLE = "api.kaggle.com"  # the server of kagglesdk
_TIMEOUT_SECONDS = 5.0


def require(handle: str, preset: str, *files: str) -> None:
    """Requires that a KerasHub preset is in kagglehub's cache or that its server answers.

    Args:
        handle: KerasHub's ``kaggle://owner/model/framework/variation/version``.
        preset: Name that the user gave, for the message.
        files: Files that loading needs apart from the config and the weights.

    Raises:
        ConfigError: If neither is true, within about 5 s.
    """
    if not _cached(kaggle_directory(handle), files) and not reachable(KAGGLE):
        raise ConfigError(message(preset, f"no answer from {KAGGLE}"))


def message(preset: str, reason: str) -> str:
    """Returns the error message for a preset that could not be downloaded."""
    return (
        "backbone.preset must be on this machine or downloadable, because presets and handles need a "
        f"network at first use. Received: {preset} ({reason}). Connect to a network once, use the "
        "bundled backbone.preset=resnet_mini, or backbone=local backbone.path=DIR."
    )


def errors() -> tuple[type[Exception], ...]:
    """Returns the errors of kagglehub, huggingface_hub and their clients on failed downloads."""
    from huggingface_hub.errors import HfHubHTTPError
    from kagglehub.exceptions import KaggleApiHTTPError
    from requests.exceptions import RequestException

    # The base of all errors of its HTTP client, whichever client this version uses.
    http_error = HfHubHTTPError.__mro__[1]
    return (RequestException, KaggleApiHTTPError, http_error, ConnectionError, TimeoutError)


def kaggle_directory(handle: str) -> Path:
    """Returns the directory where kagglehub keeps a handle with its version."""
    from kagglehub.config import get_cache_folder

    return Path(get_cache_folder()) / "models" / handle.removeprefix("kaggle://")


def _cached(directory: Path, files: Sequence[str]) -> bool:
    weights = ("model.weights.h5", "model.weights.json")
    return all((directory / file).is_file() for file in ("config.json", *files)) and any(
        (directory / file).is_file() for file in weights
    )


def reachable(host: str, port: int = 443) -> bool:
    """Tries one connection, through the proxy if one is set, and includes the name look-up."""
    proxy = getproxies().get("https")
    split = urlsplit(proxy if proxy is None or "://" in proxy else f"//{proxy}")
    target = (str(split.hostname), split.port or 80) if proxy and split.hostname else (host, port)
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(target, timeout=_TIMEOUT_SECONDS).close()
        except OSError:
            return
        answered.set()

    # A thread, because create_connection's timeout does not cover the name look-up.
    worker = threading.Thread(target=connect, daemon=True)
    worker.start()
    worker.join(_TIMEOUT_SECONDS)
    return answered.is_set()
