"""`export`: one artifact of a run's model, checked in its own runtime before it is kept."""

import json
import os
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from finetune import __version__
from finetune.errors import ConfigError
from finetune.inference.completed import MODEL
from finetune.inference.export.formats import Format
from finetune.inference.export.interface import interface
from finetune.inference.export.parity import (
    Parity,
    batches_for,
    compare,
    expected_probabilities,
    measure,
    tolerance_of,
)
from finetune.inference.export.samples import find_samples
from finetune.inference.export.serving import serving_model
from finetune.inference.export.writing import write
from finetune.inference.trained import load_trained
from finetune.keras_internals import flatten
from finetune.storage.durable import fresh_directory
from finetune.storage.sealed import DAMAGES, digest_of, file_digest

SCHEMA = 1
MANIFEST, LABELS = "export.json", "labels.json"


@dataclass(frozen=True)
class Export:
    """What ``export.json`` holds.

    Args:
        format: its name.
        artifact: file or folder beside ``export.json``.
        run: of which run it is: name of the backbone, of the dataset, and a digest of the model.
        interface: inputs and outputs, and what comes before them, see
            `finetune.inference.export.interface`.
        parity: with the run's model.
        files: bytes and sha256 of each file but this one.
        versions: of what wrote it and of what ran it.
    """

    format: str
    artifact: str
    run: dict[str, str]
    interface: dict[str, Any]
    parity: Parity
    files: dict[str, dict[str, Any]]
    versions: dict[str, str]
    schema: int = SCHEMA

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(each["bytes"] for each in self.files.values())


def output_directory(run_directory: Path, target: Format, output: Path | None) -> Path:
    """Returns where an export goes: ``RUN_DIR/export/FORMAT`` unless it is said.

    Raises:
        ConfigError: for a place that holds anything but an earlier export.
    """
    chosen = run_directory / "export" / target.name if output is None else output
    directory = Path(os.path.abspath(chosen))
    if os.path.lexists(directory) and not _ours(directory):
        raise ConfigError(
            f"--output must be a directory that is not there yet, or an earlier export, which is "
            f"replaced. Received: {directory}. Choose another, or remove it."
        )
    return directory


def _ours(directory: Path) -> bool:
    """Whether a directory is empty, or as an export left it: nothing that is not named is lost."""
    if not directory.is_dir() or directory.is_symlink():
        return False
    found = {str(p.relative_to(directory)) for p in directory.rglob("*") if not p.is_dir()}
    if not found:
        return True
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        return found <= {MANIFEST, *manifest["files"]} and "parity" in manifest
    except DAMAGES:
        return False


def export_run(run_directory: Path, target: Format, directory: Path) -> Export:
    """Writes a run's model in a format; what does not give the run's probabilities is not kept.

    Args:
        run_directory: of a completed run.
        target: the format.
        directory: see `output_directory`.

    Raises:
        ConfigError: for a run that is not at its end, or a model that the format cannot hold.
        FinetuneError: for an artifact that does not run or gives other probabilities.
    """
    trained = load_trained(run_directory)
    samples = find_samples(trained)
    expected = expected_probabilities(trained, samples)
    model = serving_model(trained, target)
    labels = (trained.directory / MODEL / LABELS).read_bytes()
    with fresh_directory(directory) as written:
        write(trained, model, target, written)
        (written / LABELS).write_bytes(labels)
        batches = batches_for(trained, samples, model, target)
        alone = target.name != "keras" or _of_keras(model)
        found = measure(target, written / target.artifact, batches, alone)
        parity = compare(
            expected,
            found,
            trained.multi_label,
            tolerance_of(trained),
            samples.source,
        )
        export = Export(
            format=target.name,
            artifact=target.artifact,
            run={
                "backbone": trained.record.backbone.name,
                "dataset": trained.record.dataset.name,
                "model_sha256": digest_of(trained.record.model_sha256),
            },
            interface=interface(trained, model, target, LABELS),
            parity=parity,
            files=_files(written),
            versions={
                "finetune": __version__,
                "keras": version("keras"),
                target.runtime: version(target.runtime),
            },
        )
        text = json.dumps(asdict(export), indent=2, ensure_ascii=False) + "\n"
        (written / MANIFEST).write_text(text, encoding="utf-8", errors="backslashreplace")
    return export


def _files(directory: Path) -> dict[str, dict[str, Any]]:
    """Returns bytes and sha256 of each file, by its place in the directory."""
    return {
        str(path.relative_to(directory)): {
            "bytes": path.stat().st_size,
            "sha256": file_digest(path),
        }
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _of_keras(model: keras.Model) -> bool:
    """Whether Keras and KerasHub alone can read every layer from a file."""
    modules = {type(each).__module__.partition(".")[0] for each in flatten(model)}
    return modules <= {"keras", "keras_hub"}
