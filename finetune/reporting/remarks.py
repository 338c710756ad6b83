"""Remarks on the data and the result of a run, for the terminal, the page, the card and the log."""

import math
from collections.abc import Iterator

from finetune.record.schema import DatasetRecord, Interval, PhaseRecord, RunRecord
from finetune.reporting.numbers import number, percent


def remarks(dataset: DatasetRecord, named_in: str | None = "run.json") -> Iterator[str]:
    """Yields a sentence with counts for each irregularity of the data.

    Args:
        dataset: Dataset of the run.
        named_in: File that names the samples that were left out; None if the reader has no such file.
    """
    if dataset.skipped:
        counts = ", ".join(f"{split} {n}" for split, n in dataset.skipped["counts"].items())
        more = "" if named_in is None else f"; {named_in} names them"
        yield f"Bad samples left out: {counts}{more}."
    if dataset.repeated:
        counts = ", ".join(f"{n} in {splits}" for splits, n in dataset.repeated.items())
        yield f"Identical samples in two splits: {counts}."
    if dataset.ignored:
        counts = ", ".join(f"{n} {suffix}" for suffix, n in dataset.ignored.items())
        yield f"Ignored files: {counts}."
    if dataset.unused:
        yield f"Unused beside the splits: {', '.join(dataset.unused)}."


def judgement(record: RunRecord) -> list[str]:
    """Returns sentences that a reader should know before trusting the result of a run.

    Args:
        record: Record of a run whose phases have ended, with its history.
    """
    return [*_not_the_last_epoch(record), *_worse_phases(record), *_against_baseline(record)]


def _not_the_last_epoch(record: RunRecord) -> Iterator[str]:
    """Yields a sentence for each phase that kept the weights of an epoch other than its best."""
    for phase in record.phases:
        if phase.best_epoch is not None:  # the weights of the best epoch were restored
            continue
        rows = [
            row
            for row in record.history
            if row.phase == phase.index and row.split == "validation" and math.isfinite(row.loss)
        ]
        if not rows:
            continue
        best, last = min(rows, key=lambda row: row.loss), max(rows, key=lambda row: row.epoch)
        if number(best.loss) == number(last.loss):
            continue
        yield (
            f"Phase {phase.name}: the lowest validation loss was {number(best.loss)} in epoch "
            f"{best.epoch + 1} of {last.epoch + 1}. The last epoch, whose weights were kept, has "
            f"{number(last.loss)}, which is {number(last.loss - best.loss)} more. "
            f"{_restoring(record, phase)} keeps the best epoch."
        )


def _restoring(record: RunRecord, phase: PhaseRecord) -> str:
    """Returns the override that makes a phase restore its best epoch."""
    schedule = record.config.get("schedule", {})
    generated = schedule.get("from_depth") is not None and phase.name not in schedule.get(
        "phases", {}
    )
    return f"schedule.{'' if generated else f'phases.{phase.name}.'}restore_best=true"


def _worse_phases(record: RunRecord) -> Iterator[str]:
    """Yields a sentence for phases whose final validation loss is above that of an earlier phase."""
    best: PhaseRecord | None = None
    worse: dict[str, list[PhaseRecord]] = {}
    for phase in record.phases:
        loss = _loss(phase)
        if loss is None:
            continue
        before = None if best is None else _loss(best)
        if best is None or before is None or loss < before:
            best = phase
        elif number(loss) != number(before):
            worse.setdefault(best.name, []).append(phase)
    by_name = {phase.name: phase for phase in record.phases}
    for name, phases in worse.items():
        later = " and ".join(_ended_with(phase) for phase in phases)
        yield (
            f"Validation got worse after phase {_ended_with(by_name[name])}: {later}. Fewer epochs "
            "or a lower learning rate in later phases may keep the earlier result."
        )


def _loss(phase: PhaseRecord) -> float | None:
    loss = phase.metrics.get("validation", {}).get("loss", math.nan)
    return loss if math.isfinite(loss) else None


def _ended_with(phase: PhaseRecord) -> str:
    metrics = phase.metrics["validation"]
    return f"{phase.name} (loss {number(metrics['loss'])}, accuracy {percent(metrics['accuracy'])})"


def _against_baseline(record: RunRecord) -> Iterator[str]:
    """Yields a sentence if the test accuracy is not clearly above that of ignoring the inputs."""
    accuracy, baseline = record.test.get("accuracy", math.nan), baseline_accuracy(record)
    if baseline is None or not math.isfinite(accuracy):
        return
    always, interval = baseline_words(record), record.test_interval
    if accuracy <= baseline:
        yield (
            f"The test accuracy of {percent(accuracy)} is no better than {always}, "
            f"which reaches {percent(baseline)}."
        )
    elif interval is not None and interval.low <= baseline:
        yield (
            f"The test accuracy of {percent(accuracy)} is not clearly better than {always}: "
            f"{percent(baseline)} lies within its 95% interval, from {percent(interval.low)} to "
            f"{percent(interval.high)}."
        )


def interval_text(interval: Interval) -> str:
    """Returns an interval of an accuracy with the number of its examples."""
    bounds = f"{percent(interval.low)} to {percent(interval.high)}"
    return f"{interval.confidence:.0%} interval {bounds}, n = {interval.examples:,}"


def baseline_words(record: RunRecord) -> str:
    """Returns a description of the baseline of `baseline_accuracy`."""
    if record.dataset.multi_label:
        return "always giving the more frequent answer for each label"
    return "always giving the most frequent class"


def baseline_accuracy(record: RunRecord) -> float | None:
    """Returns the best accuracy on the test split that is possible without looking at the inputs.

    With one label per example, the baseline gives the most frequent class. With multi-label data it
    gives for each label the more frequent one of yes and no. Returns None without a test split.
    """
    if not record.dataset.multi_label:
        return most_frequent_share(record)
    supports = [entry["support"] for entry in record.test_per_class]
    examples = record.dataset.splits.get("test", 0)
    if not supports or not examples:
        return None
    return sum(max(n, examples - n) for n in supports) / (examples * len(supports))


def most_frequent_share(record: RunRecord) -> float | None:
    """Returns the test accuracy of always giving the most frequent class.

    Returns None without a test split, and for multi-label data.
    """
    supports = [entry["support"] for entry in record.test_per_class]
    if record.dataset.multi_label or sum(supports) == 0:
        return None
    return max(supports) / sum(supports)
