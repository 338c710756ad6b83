"""`evaluate`: measures the model of a run on a split of its own data or on other data."""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from finetune.commands.arguments import one_of, run_argument, split_options, write_out
from finetune.commands.libraries import import_quietly
from finetune.config.saved import read_saved
from finetune.config.schema import Config
from finetune.config.used_plugins import require_still_there
from finetune.errors import ConfigError, unknown_name
from finetune.inference.completed import read_completed
from finetune.inference.results import Evaluation, as_csv, as_json, show
from finetune.launcher import PROGRAM
from finetune.printable import LogFormatter
from finetune.record.schema import RunRecord
from finetune.reporting.terminal.console import make_console, show_notices
from finetune.storage.run_directory import expanded

FORMATS = ("table", "json", "csv")
_SPLITS = ("train", "validation", "test")
_KEYS = (
    *(f"dataset.{key}" for key in ("name", "path", "version", "config", "data_dir", "batch_size")),
    *(f"dataset.{key}" for key in ("label_separator", "max_samples", "on_bad_sample")),
    "dataset.splits", "dataset.columns", "runtime.device",
)  # fmt: skip


@dataclass(frozen=True)
class _Request:
    """Arguments of `evaluate`.

    Args:
        directory: Directory of the run.
        output_format: Format of the output, one of `FORMATS`.
        split: Name of the split; None for the default of `load_measured`.
        elsewhere: Whether the user named other files than those of the run.
        overrides: Overrides of the config of the run.
    """

    directory: Path
    output_format: str
    split: str | None
    elsewhere: bool
    overrides: tuple[str, ...]


def evaluate(arguments: list[str], console: Console) -> int:
    """Prints the metrics of a split; writes nothing into the run directory."""
    request = _request(arguments, console)
    record = read_completed(request.directory)
    if record.backbone.own:
        raise ConfigError(
            "RUN_DIR must be a run of the command line: a run of FineTuner has its data in Python. "
            f"Received: {request.directory}. Call finetune.load({str(request.directory)!r})."
            "evaluate(inputs, labels)."
        )
    needed = {k: v for k, v in record.plugins.items() if not k.startswith("backbones.")}
    require_still_there(request.directory, needed)  # the run has kept its backbone
    config = read_saved(request.directory, request.overrides)
    _warn_on_stderr()
    with console.status("evaluating"):
        evaluation = _measure(request, record, config, console)
    if request.output_format == "table":
        show(evaluation, make_console())
    elif request.output_format == "json":
        write_out(as_json(evaluation))
    else:
        write_out(as_csv(evaluation, sys.stdout.isatty()))
    return 0


def _warn_on_stderr() -> None:
    """Shows warnings about the data on stderr, because there is no log to write them to."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("warning: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def _request(arguments: list[str], console: Console) -> _Request:
    options, others = split_options("evaluate", arguments, ("--format",))
    if not others or ("=" in others[0] and not expanded(others[0], "RUN_DIR").is_dir()):
        raise ConfigError(
            "evaluate must be given one run directory and, optionally, overrides. Received: "
            f"{' '.join(arguments) or 'nothing'}. Write {PROGRAM} evaluate RUN_DIR."
        )
    output_format = one_of(options, "--format", "a format", FORMATS)
    splits = [text.partition("=")[2] for text in others[1:] if text.startswith("split=")]
    overrides = [text for text in others[1:] if not text.startswith("split=")]
    if any(name not in _SPLITS for name in splits) or len(splits) > 1:
        raise ConfigError(unknown_name("split", "one split", " ".join(splits), _SPLITS))
    problems = [
        unknown_name("overrides of evaluate", "keys that choose the data", override, _KEYS)
        for override in overrides
        if not _allowed(override)
    ]
    if problems:
        raise ConfigError(problems)
    split = splits[0] if splits else None
    named = {override.partition("=")[0] for override in overrides}
    elsewhere = "dataset.path" in named
    if elsewhere and split is None and "dataset.max_samples" not in named:
        overrides.insert(0, "dataset.max_samples=null")  # the limit was for the data of the run
    directory = run_argument(others[0], console)
    return _Request(directory, output_format, split, elsewhere, tuple(overrides))


def _allowed(override: str) -> bool:
    key, equals, _ = override.partition("=")
    return bool(equals) and any(
        key == name
        or (name in ("dataset.splits", "dataset.columns") and key.startswith(f"{name}."))
        for name in _KEYS
    )


def _measure(request: _Request, record: RunRecord, config: Config, console: Console) -> Evaluation:
    import_quietly("finetune.inference.evaluating")
    from finetune.datasets.measured import load_measured
    from finetune.inference.evaluating import evaluate as measure
    from finetune.inference.seen import said_of, seen_in_training
    from finetune.inference.trained import of_record
    from finetune.training.device import prepare

    runtime = config.runtime
    prepare(runtime.device, None, runtime.deterministic, config.seed)
    trained = of_record(request.directory, record)
    data = load_measured(
        config.dataset,
        config.seed,
        trained.classes,
        trained.multi_label,
        request.split,
        request.elsewhere,
    )
    show_notices(console, data.notices)
    seen = seen_in_training(request.directory, data.examples)
    warning = said_of(seen, data.examples.num_examples)
    show_notices(console, [] if warning is None else [f"warning: {warning}"])
    report = measure(trained, data.examples, data.kind, config.dataset.batch_size)
    same = None if data.fingerprint is None else data.fingerprint == record.dataset.fingerprint
    return Evaluation(
        run=str(request.directory),
        dataset=data.dataset,
        split=data.split,
        examples=data.examples.num_examples,
        left_out=data.num_bad,
        trained_on=seen,
        data_of_the_run=same,
        metrics=report.metrics,
        interval=report.interval,
        per_class=report.per_class,
    )
