"""The record on disk: run.json, sealed with a digest of its content, and metrics.csv."""

import csv
import hashlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_type_hints

from finetune.errors import ConfigError
from finetune.launcher import command
from finetune.record.listener import Listener
from finetune.record.schema import MetricRow, PhaseRecord, RunRecord
from finetune.storage.durable import storing, write_atomically
from finetune.storage.sealed import DAMAGES, file_digest, read_sealed, require_regular, sealed
from finetune.storage.typed_json import build

CARD_FILE = "README.md"  # in model/
SPLITS_FILE, SPLITS_COLUMNS = "splits.csv", ("split", "source", "digest")
EPOCH_SECONDS = 0.5


def to_values(record: Any) -> dict[str, Any]:
    """Returns a dataclass as strict JSON values; numbers that are not finite become null."""
    return _strict(asdict(record))


def to_json(record: RunRecord) -> str:
    """Returns the text of run.json with a digest of its content; metrics.csv holds `history`."""
    values = to_values(record)
    del values["history"]
    return json.dumps(sealed(values), indent=2, ensure_ascii=False, allow_nan=False)


def read_json(path: Path) -> RunRecord:
    """Reads a run.json and checks that it is as the run wrote it; `history` stays empty.

    Raises:
        ConfigError: If it is damaged.
        FileNotFoundError: If there is none.
    """
    try:
        return build(RunRecord, read_sealed(path))
    except FileNotFoundError:
        raise
    except DAMAGES as error:
        raise ConfigError(
            f"{path} must be as a run wrote it. Received: {error}. Rewrite it from the run's "
            f"checkpoint: {command('resume', path.parent)}."
        ) from error


def read_csv(path: Path) -> list[MetricRow]:
    """Reads a metrics.csv; every value must be present and have its type.

    Raises:
        ConfigError: If a line is not as a run writes it; the message says which.
        FileNotFoundError: If there is no file.
    """
    names = list(MetricRow.__dataclass_fields__)
    kinds = get_type_hints(MetricRow)
    number = 1
    try:
        require_regular(path)
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file, strict=True)
            if next(lines, None) != names:
                raise ValueError(f"columns other than {','.join(names)}")
            rows = []
            for values in lines:
                number = lines.line_num
                pairs = zip(names, values, strict=True)
                rows.append(MetricRow(**{name: kinds[name](value) for name, value in pairs}))
        return rows
    except FileNotFoundError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(
            f"{path} must be as a run wrote it. Received: {error}, in line {number}. Rewrite it "
            f"from the run's checkpoint: {command('resume', path.parent)}."
        ) from error


def read_record(directory: Path) -> RunRecord:
    """Reads run.json and metrics.csv of a run, also of one that is not completed.

    While a run trains, metrics.csv may be one epoch ahead.

    Raises:
        ConfigError: If one of them is damaged, or metrics.csv is missing.
        FileNotFoundError: If there is no run.json.
    """
    record = read_json(directory / "run.json")
    path = directory / "metrics.csv"
    try:
        record.history = read_csv(path)
        as_written = file_digest(path) == record.metrics_sha256
    except FileNotFoundError:
        as_written = not record.metrics_sha256
    if not as_written and (record.status == "completed" or not record.history):
        raise ConfigError(
            f"{path} must be as the run wrote it. Received: "
            f"{'other rows' if record.history else 'no file'}. Rewrite it from the run's "
            f"checkpoint: {command('resume', directory)}."
        )
    return record


def changed_files(directory: Path, record: RunRecord) -> list[str]:
    """Returns the files of a completed run that are missing or not as the run wrote them.

    The model card is left out, because it asks its readers to fill in what the run did not know.
    """
    sealed = {name: digest for name, digest in record.model_sha256.items() if name != CARD_FILE}
    expected = {f"model/{name}": digest for name, digest in sealed.items()}
    expected["metrics.csv"] = record.metrics_sha256
    found = {}
    for name in expected:
        try:
            # The record may have been edited, too: files outside of the directory are not read.
            found[name] = "elsewhere" if ".." in Path(name).parts else file_digest(directory / name)
        except (OSError, ValueError):
            found[name] = "gone"
    return [name for name, digest in expected.items() if found[name] != digest]


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class RecordListener(Listener):
    """Keeps run.json and metrics.csv of a run directory up to date.

    Both are written at the start and end of each phase and of the run, and after an epoch that ends
    at least `EPOCH_SECONDS` after the last time, because an epoch on stored features takes less
    time than writing the files.

    Args:
        directory: The run directory; created if it does not exist.
        others: Other texts by the names of their files, written when the run starts.
        removed: Called after the directory was removed and created again.
    """

    def __init__(
        self,
        directory: Path,
        others: Mapping[str, str] | None = None,
        removed: Callable[[], None] = lambda: None,
    ) -> None:
        self._removed = removed
        self._directory = directory
        self._others = dict(others or {})
        self._written = -math.inf
        directory.mkdir(parents=True, exist_ok=True)

    def run_started(self, record: RunRecord) -> None:
        """Writes the record and the other files before anything is computed."""
        self._write(record)
        self._write_others()

    def phase_started(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Writes the record with the counts of the phase."""
        self._write(record)

    def epoch_ended(self, record: RunRecord, phase: PhaseRecord, rows: list[MetricRow]) -> None:
        """Writes the record, unless it was just written."""
        if time.monotonic() - self._written >= EPOCH_SECONDS:
            self._write(record)

    def phase_ended(self, record: RunRecord, phase: PhaseRecord) -> None:
        """Writes the record with the proof of the phase."""
        self._write(record)

    def run_ended(self, record: RunRecord) -> None:
        """Writes the record with its final status."""
        self._write(record)

    def _write(self, record: RunRecord) -> None:
        lost = self._written > -math.inf and not os.path.isfile(self._directory / "run.json")
        if lost:
            with storing(self._directory):
                self._directory.mkdir(parents=True, exist_ok=True)
        self._written = time.monotonic()
        if record.history:
            text = to_csv(record.history)
            write_atomically(self._directory / "metrics.csv", text)
            record.metrics_sha256 = hashlib.sha256(text.encode()).hexdigest()
        write_atomically(self._directory / "run.json", to_json(record))
        if lost:
            self._write_others()
            self._removed()

    def _write_others(self) -> None:
        for name, text in self._others.items():
            write_atomically(self._directory / name, text)


def to_csv(rows: Iterable[MetricRow]) -> str:
    """Returns metrics.csv with its header; floats keep every digit."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(MetricRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()
