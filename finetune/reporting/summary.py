"""What a person wants to know of a run in ten seconds: what, how good, against what, how long."""

import math
from dataclasses import dataclass

from finetune.record.schema import PhaseRecord, RunRecord
from finetune.reporting.numbers import compact, duration, number, percent, plural, size
from finetune.reporting.remarks import baseline_accuracy, baseline_words, interval_text


@dataclass(frozen=True)
class Fact:
    """One tile: what it is, the value, and a line or two below it."""

    name: str
    value: str
    details: tuple[str, ...] = ()


def facts(record: RunRecord) -> list[Fact]:
    """Returns the tiles of a run, those that the record has something for."""
    found = [_quality(record), _against(record), _time(record), _proof(record), _frozen(record)]
    return [each for each in found if each is not None]


def notices(record: RunRecord) -> list[str]:
    """Returns what a reader has to know before the numbers."""
    found = []
    broken = [each.name for each in record.phases if _changed(each)]
    if broken:
        found.append(
            f"The proof does not hold: weights that were to be held still changed in "
            f"{', '.join(broken)}. Trust none of these numbers."
        )
    ended = sum(each.frozen_proof is not None for each in record.phases)
    if record.status == "running":
        found.append(
            f"This run was not at its end when this page was written: {ended} phases had ended. "
            "The page is rewritten as phases end, and at the end of the run."
        )
    elif record.status != "completed":
        word = {"failed": "failed", "interrupted": "was interrupted"}[record.status]
        found.append(
            f"This run {word} after {ended} whole phases and {epochs(record)} epochs. The numbers "
            "are of what it had come to; there is no test and no saved model of it."
        )
    if record.status == "completed" and not record.test:
        found.append(
            "There is no test split: how good the model is is measured on the validation split, "
            "which may have chosen its epochs, and so looks better than it is."
        )
    return found


def epochs(record: RunRecord) -> int:
    """Returns how many epochs have ended, in all phases."""
    return sum(each.epochs_run for each in record.phases)


def linear_probe(record: RunRecord) -> PhaseRecord | None:
    """Returns the first phase, if it trained nothing but the head and others came after it."""
    if len(record.phases) < 2:
        return None
    first = record.phases[0]
    backbone = {each["name"] for each in record.backbone.stages}
    trained = {each["name"] for each in first.stages if each["trainable"]["weights"]}
    return None if trained & backbone or not first.metrics else first


def _last_validation(record: RunRecord) -> tuple[str, dict[str, float]] | None:
    for phase in reversed(record.phases):
        if "validation" in phase.metrics:
            return phase.name, phase.metrics["validation"]
    return None


def _quality(record: RunRecord) -> Fact | None:
    what = "decisions right" if record.dataset.multi_label else "accuracy"
    validation = _last_validation(record)
    if record.test:
        examples = record.dataset.splits.get("test", 0)
        details = [f"of {number(examples)} examples, loss {number(record.test['loss'])}"]
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
    details = (f"after {epochs(record)} epochs, loss {number(metrics['loss'])}", f"in phase {name}")
    return Fact(f"Validation {what}", percent(metrics["accuracy"]), details)


def _against(record: RunRecord) -> Fact | None:
    share, probe = baseline_accuracy(record), linear_probe(record)
    validation = _last_validation(record)
    details = []
    if probe is not None and validation is not None:
        first, last = probe.metrics["validation"]["accuracy"], validation[1]["accuracy"]
        details.append(
            f"linear probe ({probe.name}): validation {percent(first)}, at the end {percent(last)}"
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
        details.append(f"at most {size(record.peak_memory_bytes)} of memory")
    return Fact("Took", duration(total), tuple(details))


def _proof(record: RunRecord) -> Fact | None:
    proofs = [each.frozen_proof for each in record.phases if each.frozen_proof is not None]
    if not proofs:
        return None
    changed = sum(each.weights_changed for each in proofs)
    checked = [each.weights_checked for each in proofs]
    some = f"{min(checked)} to {max(checked)}" if min(checked) != max(checked) else f"{checked[0]}"
    phases = "1 phase" if len(proofs) == 1 else f"{len(proofs)} phases"
    return Fact(
        "Proof of what was held",
        "holds" if changed == 0 else "BROKEN",
        (f"{some} weights held still in {phases}, by sha256", f"{changed} of them changed"),
    )


def _frozen(record: RunRecord) -> Fact | None:
    """Tells what of the backbone no phase has trained."""
    if not record.phases or not record.backbone.stages:
        return None
    trained = {
        stage["name"]
        for phase in record.phases
        for stage in phase.stages
        if stage["trainable"]["weights"]
    }
    stages = record.backbone.stages
    kept = [each["name"] for each in stages if each["name"] not in trained]
    total = record.phases[-1].weight_counts["total"]["parameters"]
    last = record.phases[-1].weight_counts["trainable"]["parameters"]
    details = [f"{compact(last)} of {compact(total)} parameters train in the last phase"]
    if kept:
        details.insert(0, ", ".join(kept[:6]) + (" …" if len(kept) > 6 else ""))
    return Fact("Stages never trained", f"{len(kept)} of {len(stages)}", tuple(details))


def _changed(phase: PhaseRecord) -> bool:
    return phase.frozen_proof is not None and phase.frozen_proof.weights_changed > 0


def metrics(record: RunRecord) -> list[tuple[str, str]]:
    """Returns every metric of the test split, named for people; those of a share in percent."""
    shown = []
    for name, value in record.test.items():
        called = name.replace("_", " ").replace("top 5", "top-5").replace("f1", "F1")
        # A metric of a plug-in may be anything, not only a share.
        plain = name == "loss" or name in record.directions or not math.isfinite(value)
        shown.append((called, number(value) if plain else percent(value)))
    return shown
