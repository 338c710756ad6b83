"""The summary of a run: its quality, a baseline to compare with, its time and its proof."""

import math
from dataclasses import dataclass

from finetune.record.schema import PhaseRecord, RunRecord
from finetune.reporting.numbers import compact, duration, number, percent, plural, size
from finetune.reporting.remarks import baseline_accuracy, baseline_words, interval_text


@dataclass(frozen=True)
class Fact:
    """One tile of the page: a name, a value, and lines of details below it."""

    name: str
    value: str
    details: tuple[str, ...] = ()


def facts(record: RunRecord) -> list[Fact]:
    """Returns the tiles for which the record has data."""
    found = [_quality(record), _against(record), _time(record), _proof(record), _frozen(record)]
    return [fact for fact in found if fact is not None]


def notices(record: RunRecord) -> list[str]:
    """Returns the warnings that a reader must see before the numbers."""
    found = []
    broken = [phase.name for phase in record.phases if _changed(phase)]
    if broken:
        found.append(
            f"The proof fails: held weights have changed in {', '.join(broken)}. Do not trust these "
            "numbers."
        )
    ended = sum(phase.frozen_proof is not None for phase in record.phases)
    if record.status == "running":
        found.append(
            f"This run had not ended when this page was written: {plural(ended, 'phase')} had ended. "
            "The page is rewritten when phases end and when the run ends."
        )
    elif record.status != "completed":
        word = {"failed": "failed", "interrupted": "was interrupted"}[record.status]
        found.append(
            f"This run {word} after {plural(ended, 'whole phase')} and "
            f"{plural(epochs(record), 'epoch')}. The numbers describe its state at that point. There "
            "is no result on the test split and no saved model."
        )
    if record.status == "completed" and not record.test:
        found.append(
            "There is no test split, so the quality is measured on the validation split. If this "
            "split also selected the epochs, the result is too optimistic."
        )
    return found


def epochs(record: RunRecord) -> int:
    """Returns the number of epochs that have ended in all phases."""
    return sum(phase.epochs_run for phase in record.phases)


def linear_probe(record: RunRecord) -> PhaseRecord | None:
    """Returns the first phase if it trained only the head and was followed by others."""
    if len(record.phases) < 2:
        return None
    first = record.phases[0]
    backbone = {stage["name"] for stage in record.backbone.stages}
    trained = {stage["name"] for stage in first.stages if stage["trainable"]["weights"]}
    return None if trained & backbone or not first.metrics else first


def _last_validation(record: RunRecord) -> tuple[str, dict[str, float]] | None:
    for phase in reversed(record.phases):
        if "validation" in phase.metrics:
            return phase.name, phase.metrics["validation"]
    return None


def _quality(record: RunRecord) -> Fact | None:
    what = "accuracy of decisions" if record.dataset.multi_label else "accuracy"
    validation = _last_validation(record)
    if record.test:
        examples = record.dataset.splits.get("test", 0)
        details = [f"on {number(examples)} examples, loss {number(record.test['loss'])}"]
        if record.test_interval is not None:
            details.append(interval_text(record.test_interval))
        if "macro_f1" in record.test:
            details.append(f"macro-F1 {percent(record.test['macro_f1'])}")
        if validation is not None:
            details.append(f"validation {percent(validation[1]['accuracy'])}")
        return Fact(f"Test {what}", percent(record.test["accuracy"]), tuple(details))
    if validation is None:
        return None
    name, metrics = validation
    ran = plural(epochs(record), "epoch")
    details = (f"after {ran}, loss {number(metrics['loss'])}", f"in phase {name}")
    return Fact(f"Validation {what}", percent(metrics["accuracy"]), details)


def _against(record: RunRecord) -> Fact | None:
    share, probe = baseline_accuracy(record), linear_probe(record)
    validation = _last_validation(record)
    details = []
    if probe is not None and validation is not None:
        first, last = probe.metrics["validation"]["accuracy"], validation[1]["accuracy"]
        details.append(
            f"linear probe ({probe.name}): validation {percent(first)}, finally {percent(last)}"
        )
    if share is not None:
        details.insert(0, baseline_words(record))
        return Fact("Baseline", percent(share), tuple(details))
    if details and probe is not None:
        return Fact("Baseline", percent(probe.metrics["validation"]["accuracy"]), tuple(details))
    return None


def _time(record: RunRecord) -> Fact | None:
    total = record.seconds.get("total", 0.0)
    if total <= 0:
        return None
    details = [f"{plural(epochs(record), 'epoch')} in {plural(len(record.phases), 'phase')}"]
    if "startup" in record.seconds:
        details.append(f"first training step after {duration(record.seconds['startup'])}")
    if record.peak_memory_bytes:
        details.append(f"peak memory {size(record.peak_memory_bytes)}")
    return Fact("Time", duration(total), tuple(details))


def _proof(record: RunRecord) -> Fact | None:
    proofs = [phase.frozen_proof for phase in record.phases if phase.frozen_proof is not None]
    if not proofs:
        return None
    changed = sum(proof.weights_changed for proof in proofs)
    checked = [proof.weights_checked for proof in proofs]
    some = f"{min(checked)} to {max(checked)}" if min(checked) != max(checked) else f"{checked[0]}"
    return Fact(
        "Proof of held weights",
        "holds" if changed == 0 else "BROKEN",
        (
            f"{some} weights held in {plural(len(proofs), 'phase')}, compared by SHA-256",
            f"{changed} of them changed",
        ),
    )


def _frozen(record: RunRecord) -> Fact | None:
    """Returns the tile of the backbone stages that no phase has trained."""
    if not record.phases or not record.backbone.stages:
        return None
    trained = {
        stage["name"]
        for phase in record.phases
        for stage in phase.stages
        if stage["trainable"]["weights"]
    }
    stages = record.backbone.stages
    kept = [stage["name"] for stage in stages if stage["name"] not in trained]
    total = record.phases[-1].weight_counts["total"]["parameters"]
    last = record.phases[-1].weight_counts["trainable"]["parameters"]
    details = [f"{compact(last)} of {compact(total)} parameters train in the last phase"]
    if kept:
        details.insert(0, ", ".join(kept[:6]) + (" …" if len(kept) > 6 else ""))
    return Fact("Stages never trained", f"{len(kept)} of {len(stages)}", tuple(details))


def _changed(phase: PhaseRecord) -> bool:
    return phase.frozen_proof is not None and phase.frozen_proof.weights_changed > 0


def metrics(record: RunRecord) -> list[tuple[str, str]]:
    """Returns the metrics of the test split with readable names; proportions are in percent."""
    shown = []
    for name, value in record.test.items():
        called = name.replace("_", " ").replace("top 5", "top-5").replace("f1", "F1")
        # A metric of a plug-in may be anything, not only a share.
        plain = name == "loss" or name in record.directions or not math.isfinite(value)
        shown.append((called, number(value) if plain else percent(value)))
    return shown
