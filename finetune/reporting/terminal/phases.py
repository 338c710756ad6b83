"""The terminal lines of a phase: its header, the changes of weight counts, and its end."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import markup

from finetune.printable import printable
from finetune.record.schema import STATES, PhaseRecord, RunRecord, count_text, non_trainable
from finetune.reporting.numbers import number, percent, plural

_MOST_STAGES = 4  # that the line of changes names; of more it names the first and the last


def data(text: object) -> str:
    """Returns data escaped for use in markup."""
    return markup.escape(printable(text))


def rates(phase: PhaseRecord) -> str:
    """Returns the learning rate of a phase, or its highest and lowest rate if stages differ."""
    values = sorted(phase.learning_rates.values())
    if not values:
        return "–"
    return f"{values[-1]:.2g}" + (f" … {values[0]:.2g}" if values[0] != values[-1] else "")


def header(phase: PhaseRecord, num_phases: int) -> str:
    """Returns the title line of a phase, as markup."""
    return (
        f"[bold]phase {phase.index + 1} of {num_phases}: {data(phase.name)}[/]  "
        f"{data(phase.policy)}, {plural(phase.epochs_planned, 'epoch')}, rate {rates(phase)}, "
        f"BatchNorm {phase.batch_norm}"
    )


def counts_line(phase: PhaseRecord, before: PhaseRecord | None = None) -> str:
    """Returns the counts of a phase as one line of markup, in weights / parameters.

    Args:
        phase: Phase to describe.
        before: Phase before it. The line then names the stages whose trainable weights change, and
            only those states of non-trainable weights whose counts change.
    """
    counts = phase.weight_counts
    kinds = [
        f"{counts[state]['weights']:,} {state}"
        for state in STATES[1:]
        if counts[state]["weights"]
        and (before is None or counts[state] != before.weight_counts[state])
    ]
    more = f" ({', '.join(kinds)})" if kinds else ""
    changed = "" if before is None else f"{data(_changes(phase, before))}: "
    return (
        f"{changed}trainable {count_text(counts['trainable'])}, "
        f"non-trainable {count_text(non_trainable(counts))}{more}"
    )


def _changes(phase: PhaseRecord, before: PhaseRecord) -> str:
    """Returns the stages that train more weights than before after a +, and less after a −."""
    earlier = {stage["name"]: _trains(stage) for stage in before.stages}
    grown = {stage["name"]: _trains(stage) - earlier[stage["name"]] for stage in phase.stages}
    shown = [
        f"{sign} {_listed([name for name, more in grown.items() if more * factor > 0])}"
        for sign, factor in (("+", 1), ("−", -1))
        if any(more * factor > 0 for more in grown.values())
    ]
    return ", ".join(shown) if shown else "as before"


def _trains(stage: Mapping[str, Any]) -> int:
    return stage["trainable"]["parameters"]


def _listed(names: list[str]) -> str:
    if len(names) <= _MOST_STAGES:
        return ", ".join(names)
    return f"{len(names)} stages ({names[0]} … {names[-1]})"


def ended(record: RunRecord, phase: PhaseRecord) -> Iterator[str]:
    """Yields the lines at the end of a phase: features, the proof, and the restored epoch."""
    features = phase.features
    if features.get("cached"):
        yield (
            f"read features of {data(features['cut'])}: {features['samples_extracted']:,} samples "
            f"computed, {features['seconds']:.1f} s"
        )
    proof = phase.frozen_proof
    if proof is not None:
        early = ""
        if phase.stopped_by == "patience":
            early = f"; stopped by patience after {plural(phase.epochs_run, 'epoch')}"
        held = f"{plural(proof.weights_checked, 'weight')} held: {proof.weights_changed} changed"
        yield f"{held if proof.weights_checked else 'no weight was held: all could change'}{early}"
    if phase.best_epoch is not None:
        yield restored(record, phase)


def restored(record: RunRecord, phase: PhaseRecord) -> str:
    """Returns the epoch that a phase has restored, counted from 1, and its validation metric."""
    first = min((r.global_epoch for r in record.history if r.phase == phase.index), default=0)
    epoch = (phase.best_epoch or 0) - first + 1
    best = phase.metrics.get("validation", {}).get(phase.monitor)
    shown = (
        "" if best is None else f": {(percent if phase.monitor == 'accuracy' else number)(best)}"
    )
    kind = {"loss": "lowest", "accuracy": "highest"}.get(phase.monitor, "best")
    return (
        f"restored epoch {epoch} of {phase.epochs_run}, which had the {kind} validation "
        f"{phase.monitor}{shown}"
    )
