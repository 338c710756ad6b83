"""Directories of ``hf://`` and ``kaggle://`` handles, which are downloaded at first use."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from finetune.backbones import directories, network
from finetune.errors import ConfigError, first_line

HF_SCHEME, KAGGLE_SCHEME = "hf://", "kaggle://"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"


@dataclass(frozen=True)
class Fetched:
    """The files of a handle on disk. `name` contains the version or commit that was used."""

    directory: Path
    source: str
    name: str


def fetch(handle: str, revision: str | None = None) -> Fetched:
    """Returns the files of a handle, from its library's cache or the network.

    Args:
        handle: ``hf://owner/name`` or ``kaggle://owner/model/keras/variation/version``.
        revision: Branch, tag or commit of an ``hf://`` handle; None takes the default branch.

    Raises:
        ConfigError: If the handle has another form, its server does not know it, or, within about 5
            s, it is not in the cache and there is no network.
    """
    if re.fullmatch(f"{HF_SCHEME}{_PART}/{_PART}", handle):
        return _hugging_face(handle, revision)
    if re.fullmatch(f"{KAGGLE_SCHEME}{_PART}/{_PART}/{_PART}/{_PART}(/[0-9]+)?", handle):
        return _kaggle(handle)
    raise ConfigError(
        f"backbone.preset must be a handle {HF_SCHEME}owner/name or "
        f"{KAGGLE_SCHEME}owner/model/keras/variation/version. Received: {handle}. "
        "Copy it from the model's page."
    )


def _hugging_face(handle: str, revision: str | None) -> Fetched:
    cached = _snapshot(handle, revision, offline=True)
    pinned = revision is not None and _COMMIT.fullmatch(revision) is not None
    if cached is None or not pinned or not directories.complete(cached):
        # A branch or tag may have moved; the cache serves if there is no network.
        cached = _download(handle, revision, cached)
    repository = handle.removeprefix(HF_SCHEME)
    return Fetched(cached, "huggingface", f"{repository}@{cached.name[:12]}")


def _download(handle: str, revision: str | None, cached: Path | None) -> Path:
    from huggingface_hub import constants

    host = urlsplit(os.environ.get("HF_ENDPOINT") or constants.ENDPOINT)
    offline = constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
    port = host.port or (80 if host.scheme == "http" else 443)
    shown = handle if revision is None else f"{handle} at revision {revision}"
    if offline or not network.reachable(str(host.hostname), port):
        if cached is None:
            reason = "HF_HUB_OFFLINE is set" if offline else f"no answer from {host.hostname}"
            raise ConfigError(network.message(shown, reason))
        return cached
    found = _snapshot(handle, revision, offline=False)
    if found is None:
        raise ConfigError(network.message(shown, "the download failed"))
    return found


def _snapshot(handle: str, revision: str | None, offline: bool) -> Path | None:
    """Returns the snapshot's directory, or None if it is not cached and cannot be downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = snapshot_download(
            handle.removeprefix(HF_SCHEME),
            revision=revision,
            cache_dir=_hugging_face_cache(),
            allow_patterns=list(directories.FILES),
            local_files_only=offline,
        )
    except LocalEntryNotFoundError:
        return None
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError) as error:
        shown = handle if revision is None else f"{handle} at revision {revision}"
        raise ConfigError(
            f"backbone.preset must be a model that you can download. Received: {shown} "
            f"({type(error).__name__}). Check owner, name and revision; for a private or gated "
            "model, accept its terms and set HF_TOKEN."
        ) from error
    except network.errors() as error:
        raise ConfigError(network.message(handle, first_line(error))) from error
    return Path(found)


def _hugging_face_cache() -> Path:
    """Returns the library's cache as the environment names it now, not as at its import."""
    from huggingface_hub import constants

    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"])
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]) / "hub"
    return Path(constants.HF_HUB_CACHE)


def _kaggle(handle: str) -> Fetched:
    import kagglehub

    name = handle.removeprefix(KAGGLE_SCHEME)
    directory = network.kaggle_directory(handle)
    pinned = name.count("/") == 4
    if not (pinned and directories.complete(directory)):
        if not network.reachable(network.KAGGLE):
            reason = f"no answer from {network.KAGGLE}"
            if not pinned:
                reason += "; a handle that ends with its version can come from the cache"
            raise ConfigError(network.message(handle, reason))
        try:
            directory = Path(kagglehub.model_download(name))
        except (*network.errors(), ValueError) as error:
            raise ConfigError(network.message(handle, first_line(error))) from error
    return Fetched(directory, "kaggle", name if pinned else f"{name}/{directory.name}")
