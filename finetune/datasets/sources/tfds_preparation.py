"""Preparation of a TFDS dataset on disk, with a quick error if there is no network."""

import contextlib
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import filelock
import tensorflow_datasets as tfds

from finetune.errors import ConfigError, first_line

_CONNECT_SECONDS = 5.0
_TFDS_HOST = "https://storage.googleapis.com"


def prepare(builder: Any, name: str) -> None:
    """Prepares a TFDS dataset on disk, in one process at a time, and downloads what it needs.

    Raises:
        ConfigError: If the download host does not answer, or preparation fails.
    """
    # TFDS prints its progress to stdout, which is reserved for this program's output.
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        root = Path(builder.data_dir_root)
        root.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / f".{builder.name}.lock"), _quiet_stdout():
            if builder.is_prepared():  # by the process that had the lock
                return
            url = _download_url(builder)
            if url is not None and not reachable(url):
                raise ConfigError(
                    "dataset.name must be a dataset that is on disk or can be downloaded. "
                    f"Received: {name}, which is not prepared in {root}, and "
                    f"{urlsplit(url).netloc} cannot be reached. Prepare it on a machine with a "
                    f"network (tfds build {name}) and copy it, or set dataset.data_dir to its "
                    "location. dataset=digits needs no network."
                )
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except ConfigError:
        raise
    except Exception as error:  # TFDS raises whatever its hundreds of builders raise
        raise ConfigError(
            f"dataset.name must be a dataset that can be prepared. Received: {name} "
            f"({type(error).__name__}: {first_line(error)}). Prepare it by hand (tfds build "
            f"{name}), or set dataset.data_dir to its location or to a writable directory."
        ) from error


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[None]:
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _download_url(builder: Any) -> str | None:
    """Returns a URL to try before a download, or None if the builder downloads nothing."""
    for url in builder.url_infos or ():
        if urlsplit(url).scheme in ("http", "https"):
            return url
    return _TFDS_HOST if type(builder).__module__.startswith("tensorflow_datasets") else None


def reachable(url: str, timeout_seconds: float = _CONNECT_SECONDS) -> bool:
    """Returns whether the host of `url` answers, through the proxy if one is set."""
    parts = urlsplit(url)
    answered = threading.Event()
    finished = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(f"{parts.scheme}://{parts.netloc}/", method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=timeout_seconds):
                answered.set()
        except urllib.error.HTTPError:
            answered.set()  # an error status is an answer too
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                answered.set()
        except OSError:
            pass
        finally:
            finished.set()

    # In a thread, because name resolution has no timeout.
    threading.Thread(target=ask, daemon=True).start()
    finished.wait(2 * timeout_seconds)
    return answered.is_set()
