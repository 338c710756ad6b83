"""What to know of a run's data and result before trusting it: for terminal, page, card and log."""

import math
from collections.abc import Iterator

from finetune.record.schema import DatasetRecord, Interval, PhaseRecord, RunRecord
from finetune.reporting.numbers import number, percent


def remarks(dataset: DatasetRecord, named_in: str | None = "run.json") -> Iterator[str]:
    """Yields a sentence with counts for each thing that is not as it should be.

    Args:
        dataset: of the run.
        named_in: the file that names the samples that were left out; None where it is not there.
    """
    if dataset.skipped:
        counts = ", ".join(f"{split} {n}" for split, n in dataset.skipped["counts"].items())
        more = "" if named_in is None else f"; {named_in} names them"
        yield f"Left out, because bad: {counts}{more}."
    if dataset.repeated:
        counts = ", ".join(f"{n} in {splits}" for splits, n in dataset.repeated.items())
        yield f"The same samples in two splits: {counts}."
    if dataset.ignored:
        counts = ", ".join(f"{n} {suffix}" for suffix, n in dataset.ignored.items())
        yield f"Files that are not read: {counts}."
    if dataset.unused:
        yield f"Beside the splits, and not used: {', '.join(dataset.unused)}."


def judgement(record: RunRecord) -> list[str]:
    """Returns in sentences what a reader should know before trusting the result of a run.

    Args:
        record: of a run whose phases have ended, with its history.
    """
    return [*_not_the_last_epoch(record), *_worse_phases(record), *_against_baseline(record)]


def _not_the_last_epoch(record: RunRecord) -> Iterator[str]:
    """Names the phases that kept the weights of an epoch that was not their best one."""
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
            f"{best.epoch + 1} of {last.epoch + 1}; the last epoch, whose weights were kept, has "
            f"{number(last.loss)}, {number(last.loss - best.loss)} more. "
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
    """Compares each phase with the best one before it, by the validation loss at its end."""
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
            "or a lower learning rate in later phases may keep what the earlier one had reached."
        )


def _loss(phase: PhaseRecord) -> float | None:
    loss = phase.metrics.get("validation", {}).get("loss", math.nan)
    return loss if math.isfinite(loss) else None


def _ended_with(phase: PhaseRecord) -> str:
    metrics = phase.metrics["validation"]
    return f"{phase.name} (loss {number(metrics['loss'])}, accuracy {percent(metrics['accuracy'])})"


def _against_baseline(record: RunRecord) -> Iterator[str]:
    """Compares the test accuracy with that of a model that has learned nothing of the inputs."""
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
    """Returns an interval of an accuracy, with the number of examples that it rests on."""
    bounds = f"{percent(interval.low)} to {percent(interval.high)}"
    return f"{interval.confidence:.0%} interval {bounds}, n = {interval.examples:,}"


def baseline_words(record: RunRecord) -> str:
    """Returns what the baseline does whose accuracy `baseline_accuracy` returns."""
    if record.dataset.multi_label:
        return "giving each label its more frequent answer"
    return "always giving the most frequent class"


def baseline_accuracy(record: RunRecord) -> float | None:
    """Returns the accuracy on the test split of the best answer that ignores the inputs.

    With one label it is always the most frequent class. With several, each label gets the answer,
    yes or no, that is right more often. None without a test split.
    """
    if not record.dataset.multi_label:
        return most_frequent_share(record)
    supports = [each["support"] for each in record.test_per_class]
    examples = record.dataset.splits.get("test", 0)
    if not supports or not examples:
        return None
    return sum(max(each, examples - each) for each in supports) / (examples * len(supports))


def most_frequent_share(record: RunRecord) -> float | None:
    """Returns the accuracy on the test split of always giving its most frequent class.

    None without a test split, and where an example may have several labels.
    """
    supports = [each["support"] for each in record.test_per_class]
    if record.dataset.multi_label or sum(supports) == 0:
        return None
    return max(supports) / sum(supports)
