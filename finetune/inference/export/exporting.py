"""`export`: writes a run's model in another format and checks it in the runtime of that format."""

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
    """Content of ``export.json``.

    Args:
        format: Name of the format.
        artifact: Name of the file or folder beside ``export.json``.
        run: Origin of the model: name of the backbone, name of the dataset, and digest of the model.
        interface: Inputs, preprocessing and outputs; see `finetune.inference.export.interface`.
        parity: Result of the comparison with the run's model.
        files: Bytes and SHA-256 of each file except ``export.json``.
        versions: Versions of the packages that wrote the artifact and ran it.
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
        """Size of all files together."""
        return sum(file["bytes"] for file in self.files.values())


def output_directory(run_directory: Path, target: Format, output: Path | None) -> Path:
    """Returns the directory of an export: `output`, or ``RUN_DIR/export/FORMAT`` if it is None.

    Raises:
        ConfigError: If the directory holds anything but an earlier export.
    """
    chosen = run_directory / "export" / target.name if output is None else output
    directory = Path(os.path.abspath(chosen))
    if os.path.lexists(directory) and not _ours(directory):
        raise ConfigError(
            f"--output must be a new directory, or an earlier export, which is then replaced. "
            f"Received: {directory}. Choose another directory, or remove this one."
        )
    return directory


def _ours(directory: Path) -> bool:
    """Returns whether a directory is empty or holds only the files of an earlier export."""
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
    """Writes a run's model in a format, and keeps it only if it computes the same probabilities.

    Args:
        run_directory: Directory of a completed run.
        target: Format to write.
        directory: Output directory; see `output_directory`.

    Raises:
        ConfigError: If the run has not completed, or the format cannot hold the model.
        FinetuneError: If the artifact does not run, or computes other probabilities.
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
    """Returns bytes and SHA-256 of each file by its path within the directory."""
    return {
        str(path.relative_to(directory)): {
            "bytes": path.stat().st_size,
            "sha256": file_digest(path),
        }
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _of_keras(model: keras.Model) -> bool:
    """Returns whether Keras and KerasHub alone can read every layer from a file."""
    modules = {type(layer).__module__.partition(".")[0] for layer in flatten(model)}
    return modules <= {"keras", "keras_hub"}
