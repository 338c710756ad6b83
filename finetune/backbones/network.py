"""Tells within seconds whether a KerasHub preset can be downloaded, instead of hanging."""

import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from finetune.errors import ConfigError

_HOST = ("api.kaggle.com", 443)  # where kagglesdk sends its requests
_TIMEOUT_SECONDS = 5.0


def require(handle: str, preset: str) -> None:
    """Returns if the preset is in kagglehub's cache or its server answers.

    Args:
        handle: KerasHub's ``kaggle://owner/model/framework/variation/version``.
        preset: the name that the user gave, for the message.

    Raises:
        ConfigError: within about 5 s where there is no network.
    """
    if not _cached(handle) and not _reachable():
        raise ConfigError(message(preset, f"no answer from {_HOST[0]}"))


def message(preset: str, reason: str) -> str:
    """Returns what to tell a user whose preset could not be downloaded."""
    return (
        "backbone.preset must be on this machine or downloadable: KerasHub presets need a network "
        f"at first use. Received: {preset} ({reason}). Connect to a network once, use the bundled "
        "backbone.preset=resnet_mini, or backbone=local backbone.path=DIR."
    )


def errors() -> tuple[type[Exception], ...]:
    """Returns what requests and kagglehub raise when a download fails."""
    from kagglehub.exceptions import KaggleApiHTTPError
    from requests.exceptions import RequestException

    return (RequestException, KaggleApiHTTPError, ConnectionError, TimeoutError)


def _cached(handle: str) -> bool:
    from kagglehub.config import get_cache_folder

    directory = Path(get_cache_folder()) / "models" / handle.removeprefix("kaggle://")
    weights = ("model.weights.h5", "model.weights.json")
    return (directory / "config.json").is_file() and any(
        (directory / each).is_file() for each in weights
    )


def _reachable() -> bool:
    """Tries one connection, through the proxy where one is set; resolving names counts too."""
    proxy = getproxies().get("https")
    split = urlsplit(proxy if proxy is None or "://" in proxy else f"//{proxy}")
    target = (str(split.hostname), split.port or 80) if proxy and split.hostname else _HOST
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
