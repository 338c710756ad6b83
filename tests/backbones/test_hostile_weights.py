"""Weights, links and indexes of somebody else lead nowhere else and do not fill the memory."""

import json
import pickle
import shutil

import h5py
import numpy as np
import pytest

from finetune.backbones.loading import load
from tests.helpers import checkpoints
from tests.helpers.hostile import Marks, assert_refused, bert

pytestmark = pytest.mark.usefixtures("nothing_runs")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "model.pt"])
def test_pickles_are_not_opened(tmp_path, name):
    directory, _ = checkpoints.bert(tmp_path / "bert")
    (directory / "model.safetensors").unlink()
    (directory / name).write_bytes(pickle.dumps(Marks()))
    assert_refused(directory, f"{name} is not opened, because reading it can run code")


@pytest.mark.parametrize("name", ["model.weights.h5", "model.safetensors"])
def test_pickles_under_another_name(tmp_path, copy, name):
    directory = copy
    if name.endswith("safetensors"):
        directory, _ = checkpoints.bert(tmp_path / "bert")
    (directory / name).write_bytes(pickle.dumps(Marks()))
    assert_refused(directory, "model that KerasHub can load|unreadable HDF5")


def spoil_h5(file, other, how):
    """Replaces one dataset of a weights file; `other` is a file outside with the same weights."""
    with h5py.File(file, "r+") as opened:
        paths = []
        opened.visititems(lambda path, item: paths.append(path) if hasattr(item, "shape") else None)
        path = paths[0]
        group, name = opened[path].parent, path.rpartition("/")[2]
        shape, dtype = group[name].shape, group[name].dtype
        del group[name]
        if how == "external link":
            group[name] = h5py.ExternalLink(str(other), path)
        elif how == "soft link":
            group[name] = h5py.SoftLink("/elsewhere")
            opened["elsewhere"] = np.zeros(shape, dtype)
        elif how == "external link of a group":
            top = path.partition("/")[0]
            del opened[top]
            opened[top] = h5py.ExternalLink(str(other), top)
        elif how == "external storage":
            size = int(np.prod(shape)) * dtype.itemsize
            group.create_dataset(name, shape, dtype, external=[(str(other), 0, size)])
        elif how == "virtual dataset":
            layout = h5py.VirtualLayout(shape, dtype)
            layout[...] = h5py.VirtualSource(str(other), path, shape)
            group.create_virtual_dataset(name, layout)
        elif how == "shape bomb":
            group.create_dataset(name, (1 << 40,), "float32", chunks=(1 << 16,), compression="gzip")
        elif how == "bomb within Keras' bounds":
            group.create_dataset(name, (1 << 29,), "float32", chunks=(1 << 16,), compression="gzip")
        elif how == "other shape":
            group[name] = np.zeros((3, 5), dtype)
        elif how == "text":
            group[name] = "not a number"
        elif how == "object":
            group.create_group(name)


SPOILT = {
    "external link": "link",
    "soft link": "link",
    "external link of a group": "link",
    "external storage": "outside",
    "virtual dataset": "outside",
    "shape bomb": "bomb",
    "bomb within Keras' bounds": "bomb",
    "other shape": "other",
    "text": "other",
    "object": "other",
}


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.filterwarnings("ignore:Skipping nested container")  # Keras, before it raises
def test_weights_in_h5(copy, tmp_path, how):
    other = shutil.copy(copy / "model.weights.h5", tmp_path / "outside.h5")
    spoil_h5(copy / "model.weights.h5", other, how)
    match = {
        "link": "the weights themselves. Received: a (External|Soft)Link at",
        "outside": "the weights themselves. Received: data in another file at",
        "bomb": r"the weights themselves. Received: \d+ bytes of weights in a file of \d+",
        "other": r"must contain every weight of the backbone.*26 of 30 weights were loaded",
    }
    assert_refused(copy, match[SPOILT[how]])


@pytest.mark.parametrize(
    "content", [b"", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + b"\xff" * 4096]
)
def test_weights_that_are_no_h5(copy, content):
    (copy / "model.weights.h5").write_bytes(content)
    assert_refused(copy, "the weights themselves. Received: unreadable HDF5")


def test_a_circle_of_hard_links_ends(copy):
    with h5py.File(copy / "model.weights.h5", "r+") as opened:
        opened["layers/circle"] = opened["layers"]
    assert load(path=copy).source == "directory"


def header(text, length=None):
    return (len(text) if length is None else length).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        header(b"{}", 1 << 62),
        header(b"{}", 100),
        header(b"[" * 100_000),
        header(b'{"a":' * 100_000),
        header(b"not json"),
        header(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4000000000]}}'),
        header(b'{"a": {"dtype": "F32", "shape": [99999999999], "data_offsets": [0, 4]}}')
        + b"0000",
        header(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}') + b"0000",
        header(b'{"a": {"dtype": "O", "shape": [1], "data_offsets": [0, 4]}}') + b"0000",
    ],
    ids=map(str, range(11)),
)
def test_weights_in_safetensors(tmp_path, content):
    directory, _ = checkpoints.bert(tmp_path / "bert")
    (directory / "model.safetensors").write_bytes(content)
    assert_refused(directory, "model that KerasHub can load")


def test_weights_of_timm_in_safetensors(tmp_path):
    directory, _ = checkpoints.resnet18(tmp_path / "resnet18")
    (directory / "model.safetensors").write_bytes(header(b"{}", 1 << 62))
    assert_refused(directory, "timm model that KerasHub can load")


OUTSIDE = ["../{}", "../work/../{}", "/{}", "a/../../{}", "./{}", "..", "", "\0", "x\0{}"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("single", [False, True])
def test_an_index_names_no_file_elsewhere(tmp_path, name, single):
    """Also not where the one file is there as well, which KerasHub then leaves for the index."""
    directory, _ = checkpoints.distilbert(tmp_path / "distilbert", "distilbert.")
    outside = shutil.copy(directory / "model.safetensors", tmp_path / "outside.safetensors")
    if not single:
        (directory / "model.safetensors").unlink()
    written = name.format("outside.safetensors" if name[:1] != "/" else str(outside)[1:])
    names = {"distilbert.embeddings.word_embeddings.weight": written}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert_refused(directory, "must be a complete directory of a Hugging Face model")


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_index_of_h5_names_no_file_elsewhere(copy, tmp_path, name):
    shutil.move(copy / "model.weights.h5", tmp_path / "outside.h5")
    written = name.format("outside.h5" if name[:1] != "/" else str(tmp_path / "outside.h5")[1:])
    (copy / "model.weights.json").write_text(json.dumps({"weight_map": {"/a": [written]}}))
    assert_refused(copy, "must be a complete directory of a KerasHub model")


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "image_converter.json"])
@pytest.mark.parametrize("relative", [False, True])
def test_links_lead_nowhere_else(copy, tmp_path, name, relative):
    shutil.move(copy / name, tmp_path / "outside")
    (copy / name).symlink_to("../outside" if relative else tmp_path / "outside")
    assert_refused(
        copy, r"^backbone.path must contain its own files\. Received: .*a link to .*outside"
    )


def test_linked_folders_and_shards_lead_nowhere_else(tmp_path):
    directory = bert(tmp_path)
    shutil.move(directory / "assets", tmp_path / "outside")
    (directory / "assets").symlink_to(tmp_path / "outside")
    assert_refused(directory, "must contain its own files")
    directory, _ = checkpoints.distilbert(tmp_path / "distilbert", "distilbert.")
    shutil.move(directory / "model.safetensors", tmp_path / "shard")
    (directory / "part").symlink_to(tmp_path / "shard")
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"distilbert.a": "part"}}))
    assert_refused(directory, "must contain its own files")


def test_links_in_a_circle(copy):
    (copy / "model.weights.h5").unlink()
    (copy / "model.weights.h5").symlink_to("model.weights.h5")
    assert_refused(copy, "must contain its own files|without model.weights.h5")


def test_links_inside_and_to_the_blobs_of_a_cache_are_followed(copy, tmp_path):
    (copy / "model.weights.h5").rename(copy / "kept")
    (copy / "model.weights.h5").symlink_to("kept")
    assert load(path=copy).source == "directory"
    repository = tmp_path / "models--a--b"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for name, blob in (("config.json", "1"), ("image_converter.json", "2"), ("kept", "3")):
        shutil.move(copy / name, repository / "blobs" / blob)
        linked = snapshot / name.replace("kept", "model.weights.h5")
        linked.symlink_to(f"../../blobs/{blob}")
    assert load(path=snapshot).source == "directory"
    (tmp_path / "linked").symlink_to(snapshot)
    assert load(path=tmp_path / "linked").source == "directory"
