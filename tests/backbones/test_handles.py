"""Caches are made by hand; nothing here asks a server."""

import shutil
import socket
import time

import keras_hub
import pytest

from finetune.backbones import network
from finetune.backbones.loading import load
from finetune.errors import ConfigError
from tests.helpers import checkpoints

COMMIT, OTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40


@pytest.fixture(autouse=True)
def own_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def no_network(monkeypatch):
    """Every connection and name look-up hangs, as behind a wall that drops packets."""

    def hang(*_, **__):
        time.sleep(2)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", hang)
    monkeypatch.setattr(network, "_TIMEOUT_SECONDS", 0.1)


@pytest.fixture
def snapshot(tmp_path):
    """The cache that huggingface_hub leaves behind: a commit, and a branch that names it."""
    repository = tmp_path / "hf" / "models--owner--tiny"
    checkpoints.bert(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return repository


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_cached_snapshot_without_a_network(snapshot, no_network, revision):
    loaded = load("hf://owner/tiny", revision=revision)
    assert (loaded.name, loaded.source) == (f"owner/tiny@{COMMIT[:12]}", "huggingface")
    assert loaded.preprocessing["tokenizer"] == "BertTokenizer"
    assert load("hf://owner/tiny", revision=revision, name="mine").name == "mine"


def test_pinned_commit_asks_nobody(snapshot, monkeypatch):
    asked = []
    monkeypatch.setattr(network, "reachable", lambda *given: asked.append(given))
    assert load("hf://owner/tiny", revision=COMMIT).name == f"owner/tiny@{COMMIT[:12]}"
    assert not asked
    load("hf://owner/tiny", revision="main")
    assert asked  # a branch may have moved on


def test_offline_by_the_library_s_own_switch(snapshot, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(network, "reachable", lambda *_: pytest.fail("asked"))
    assert load("hf://owner/tiny").source == "huggingface"
    with pytest.raises(ConfigError, match="Received: hf://owner/none .HF_HUB_OFFLINE is set"):
        load("hf://owner/none")


@pytest.mark.parametrize(
    ("handle", "revision", "shown"),
    [
        ("hf://owner/none", None, "hf://owner/none .no answer"),
        ("hf://owner/tiny", OTHER, f"hf://owner/tiny at revision {OTHER} .no answer"),
        ("hf://owner/tiny", "branch", "hf://owner/tiny at revision branch .no answer"),
    ],
)
def test_nothing_cached_and_no_network(snapshot, no_network, handle, revision, shown):
    started = time.monotonic()
    with pytest.raises(ConfigError, match=f"^backbone.preset must be on this.*Received: {shown}"):
        load(handle, revision=revision)
    assert time.monotonic() - started < 1.5


def test_incomplete_snapshot(snapshot, no_network):
    (snapshot / "snapshots" / COMMIT / "vocab.txt").unlink()
    expected = r"^backbone.preset \(hf://owner/tiny\) must be a complete.*without vocab.txt"
    with pytest.raises(ConfigError, match=expected):
        load("hf://owner/tiny", revision=COMMIT)


def test_a_branch_is_asked_for_and_only_what_is_wanted_comes(snapshot, monkeypatch):
    import huggingface_hub

    checkpoints.bert(snapshot / "snapshots" / OTHER)
    asked = []

    def download(repository, **arguments):
        asked.append(arguments)
        commit = COMMIT if arguments["local_files_only"] else OTHER
        return str(snapshot / "snapshots" / commit)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(network, "reachable", lambda *_: True)
    assert load("hf://owner/tiny", revision="main").name == f"owner/tiny@{OTHER[:12]}"
    assert [request["revision"] for request in asked] == ["main", "main"]
    assert not {"*", "*.py", "*.bin", "pytorch_model.bin"} & set(asked[-1]["allow_patterns"])


def refused(kind):
    import httpx2
    from huggingface_hub import errors

    if kind == "ProxyError":
        return httpx2.ProxyError("no such thing")
    response = httpx2.Response(404, request=httpx2.Request("GET", "http://server.invalid"))
    return getattr(errors, kind)("no such thing", response=response)


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("ProxyError", "need a network at first use.*no such thing"),
        ("RepositoryNotFoundError", "a model that you can download.*RepositoryNotFoundError"),
        ("RevisionNotFoundError", "a model that you can download.*at revision v9"),
        ("GatedRepoError", "a model that you can download.*HF_TOKEN"),
        ("HfHubHTTPError", "need a network at first use.*no such thing"),
    ],
)
def test_what_the_server_refuses(monkeypatch, kind, match):
    import huggingface_hub

    def download(_, local_files_only, **__):
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not cached")
        raise refused(kind)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(network, "reachable", lambda *_: True)
    with pytest.raises(ConfigError, match=f"^backbone.preset must be {match}|{match}"):
        load("hf://owner/tiny", revision="v9")


@pytest.mark.parametrize(
    "handle",
    [
        "hf://tiny",
        "hf://owner/../secret",
        "kaggle://owner/model",
        "kaggle://a/b/keras/c/latest",
        "gs://bucket/model",
        "modelscope://owner/model",
    ],
)
def test_handles_of_another_form(handle):
    with pytest.raises(ConfigError, match=f"^backbone.preset must be a handle.*Received: {handle}"):
        load(handle)


HANDLE = "kaggle://owner/model/keras/tiny/3"


@pytest.fixture
def kaggle(preset, tmp_path):
    directory = tmp_path / "kaggle" / "models" / "owner" / "model" / "keras" / "tiny" / "3"
    shutil.copytree(preset, directory)
    return directory


def test_cached_kaggle_version(kaggle, no_network):
    loaded = load(HANDLE)
    assert (loaded.name, loaded.source) == ("owner/model/keras/tiny/3", "kaggle")


def test_kaggle_without_a_network(kaggle, no_network):
    with pytest.raises(ConfigError, match="Received: kaggle://owner/model/keras/tiny/4 .no answer"):
        load(HANDLE[:-1] + "4")
    with pytest.raises(
        ConfigError, match="a handle that ends with its version can come from the cache"
    ):
        load(HANDLE[:-2])
    (kaggle / "model.weights.h5").unlink()
    with pytest.raises(ConfigError, match=f"Received: {HANDLE} .no answer"):
        load(HANDLE)


def test_kaggle_download(kaggle, monkeypatch):
    import kagglehub

    asked = []
    monkeypatch.setattr(network, "reachable", lambda *_: True)
    monkeypatch.setattr(kagglehub, "model_download", lambda h: asked.append(h) or str(kaggle))
    assert load(HANDLE[:-2]).name == "owner/model/keras/tiny/3"
    assert asked == ["owner/model/keras/tiny"]

    def broken(_):
        raise ValueError("Invalid model handle")

    monkeypatch.setattr(kagglehub, "model_download", broken)
    with pytest.raises(ConfigError, match="Received: kaggle.*Invalid model handle"):
        load(HANDLE[:-2])


def test_kaggle_has_its_version_in_the_handle(kaggle):
    with pytest.raises(
        ConfigError, match="^backbone.revision must be null.*Received: main with kag"
    ):
        load(HANDLE, revision="main")


def test_cached_text_preset_of_kerashub(no_network):
    """As kagglehub leaves it: a version's files, and a marker for each that is complete."""
    name = "bert_tiny_en_uncased"
    handle = keras_hub.models.BertBackbone.presets[name]["kaggle_handle"]
    directory = network.kaggle_directory(handle)
    keras_hub.models.BertBackbone(12, 1, 2, 8, 8).save_to_preset(str(directory))
    tokenizer = keras_hub.models.BertTokenizer(checkpoints.WORDS, lowercase=True)
    tokenizer.save_to_preset(str(directory))
    for file in [path for path in directory.rglob("*") if path.is_file()]:
        marker = directory.parent / ".complete" / directory.name / file.relative_to(directory)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.with_name(f"{file.name}.complete").touch()
    loaded = load(name, sequence_length=8)
    assert (loaded.name, loaded.source, loaded.kind) == (name, "kerashub", "text")
    assert loaded.preprocessor(["The cat"])["token_ids"].shape == (1, 8)
    (directory / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=f"Received: {name} .no answer"):
        load(name)
