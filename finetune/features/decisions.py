"""Which features a run stores: decided once for each phase, as soon as they can be extracted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from finetune.errors import ConfigError
from finetune.features.cut import Cut, unstorable
from finetune.features.phase_cuts import PhaseCuts
from finetune.features.planner import Need, Verdict, decide, on_disk, this_machine
from finetune.features.store import Store
from finetune.features.structure import UndescribedError
from finetune.record.schema import FeatureDecision
from finetune.schedule.phase import Phase


class Decisions:
    """The decisions of one run.

    Args:
        cuts: The cuts of its phases.
        phases: The schedule.
        store: The store, which may hold some of the features already.
        decided: The final decisions of an earlier process by index of the phase.
    """

    def __init__(
        self,
        cuts: PhaseCuts,
        phases: Sequence[Phase],
        store: Store,
        decided: Mapping[int, FeatureDecision],
    ) -> None:
        self._cuts, self._phases, self._store = cuts, phases, store
        self._settings = cuts.settings
        self._made = dict(decided)

    def made(self) -> dict[int, FeatureDecision]:
        """Returns the final decisions so far, by index of the phase."""
        return dict(self._made)

    def listed(self) -> list[FeatureDecision]:
        """Returns one decision for each phase, in order; an open one says when it will be made."""
        return [self._made.get(i) or self._later(i) for i in range(len(self._phases))]

    def make(self, start: int) -> None:
        """Decides for the phases whose features can be extracted by the time phase `start` begins.

        Raises:
            ConfigError: If a phase needs features that cannot be stored.
        """
        candidates: dict[Cut, list[int]] = {}
        for index, ready in enumerate(self._cuts.ready):
            if ready > start or index in self._made:
                continue
            cut, reason = self._cuts.of_phase[index], self._why_not(index)
            if cut is None or reason is not None:
                self._refuse(index, reason or "no frozen prefix")
            else:
                candidates.setdefault(cut, []).append(index)
        for cut in list(candidates):
            if self._mixes_rows(cut, candidates[cut]):
                for index in candidates.pop(cut):
                    self._refuse(
                        index, "the features of a row depend on the other rows of its batch"
                    )
        if not candidates:
            return
        for (cut, indices), verdict in zip(
            candidates.items(), self._verdicts(candidates), strict=True
        ):
            for index in indices:
                self._accept(index, cut, verdict)

    def _accept(self, index: int, cut: Cut, verdict: Verdict) -> None:
        """Takes the verdict of the cost model over.

        Raises:
            ConfigError: If the phase needs features that the verdict does not store.
        """
        phase, row = self._phases[index], self._bytes_per_row(cut)
        self._made[index] = FeatureDecision(
            phase=phase.name,
            cut=cut.name,
            bytes_per_sample=row,
            bytes=row * self._num_rows(self._cuts.splits(index)),
            stored=verdict.stored,
            reason=self._explained(index, verdict.reason),
            saves_seconds=verdict.saves_seconds,
            costs_seconds=verdict.costs_seconds,
            below=self._cuts.below(index),
        )
        needed = "solver lbfgs" if phase.solver == "lbfgs" else self._settings.cache
        if needed != "auto" and not verdict.stored:
            raise ConfigError(
                f"features.max_gib must let the features of phase {phase.name} be stored. "
                f"Received: {needed}, but {verdict.reason}. Raise features.max_gib or free some disk."
            )

    def _why_not(self, index: int) -> str | None:
        """Returns why a phase's features cannot be stored, whatever they would save."""
        cuts, cut = self._cuts, self._cuts.of_phase[index]
        if cuts.own_steps:
            return f"code of the model's own ({', '.join(cuts.own_steps)}) needs the model's inputs"
        if not cuts.has_graph:
            return "the model is no functional graph"
        if cut is None:
            return "no frozen prefix"
        if self._settings.cache == "never":
            return "features.cache=never"
        if cuts.examples["train"].reader.mix is not None:
            return "the images of a batch are mixed (dataset.mix)"
        if not cuts.training_views:
            return "random augmentation; features.views=K stores K views"
        kept_out = unstorable(cuts.graph, cut)
        if kept_out is not None:
            return f"the store holds numbers only, and {kept_out} would have to be stored"
        if not all(cuts.specs(cut, split) for split, _ in cuts.splits(index)):
            return "the shape of its features differs from batch to batch"
        try:
            cuts.structure_sha256(cut)
        except UndescribedError:
            return "a layer below the cut has no full get_config"
        return None

    def _explained(self, index: int, reason: str) -> str:
        """Adds why a head is not standardised, and what keeps frozen weights above the cut."""
        cuts, parts = self._cuts, [reason]
        names, frozen = cuts.awake_above(index)
        if names:
            verb = "is" if len(names) == 1 else "are"
            parts.append(
                f"{', '.join(names)} {verb} awake in training, below {frozen} frozen weights"
            )
        if not cuts.has_graph:
            return "; ".join(parts)
        head, graph, cut = cuts.head(index), cuts.graph, cuts.of_phase[index]
        if self._settings.standardise and head is not None and head.terms:
            parts.append(f"the head is not standardised: {', '.join(head.terms)}")
        if graph.unfixed:
            calls = [(graph.calls[i].operation.name, why) for i, why in graph.unfixed.items()]
            named = ", ".join(f"{name} ({why})" for name, why in dict.fromkeys(calls))
            parts.append(f"no cut above {named}")
        below = {graph.calls[i].operation.name for i in (() if cut is None else cut.calls)}
        outside = [f"{name} ({why})" for name, why in graph.whole.items() if name not in below]
        if outside:
            parts.append(f"not cut inside {', '.join(outside)}")
        return "; ".join(parts)

    def _mixes_rows(self, cut: Cut, indices: Sequence[int]) -> bool:
        """Tells whether features that are not on disk yet depend on other rows of their batch."""
        if self._need(cut, indices).on_disk:
            return False
        examples, view = self._cuts.examples["train"], self._cuts.training_views[0]
        return self._cuts.prefix((cut,)).mixes_rows(examples, view)

    def _refuse(self, index: int, reason: str) -> None:
        """Notes that a phase stores no features.

        Raises:
            ConfigError: If the solver of the phase needs them.
        """
        explained = self._explained(index, reason)
        phase = self._phases[index]
        if phase.solver == "lbfgs":
            raise ConfigError(
                f"schedule.phases.{phase.name}.solver must be gradient where features cannot be "
                f"stored. Received: lbfgs, but {explained}. Set solver=gradient."
            )
        self._made[index] = self._not_stored(index, explained)

    def _not_stored(self, index: int, reason: str) -> FeatureDecision:
        cut = self._cuts.of_phase[index]
        name = None if cut is None else cut.name
        below = self._cuts.below(index)
        return FeatureDecision(self._phases[index].name, name, reason, below=below)

    def _later(self, index: int) -> FeatureDecision:
        when = self._phases[self._cuts.ready[index]].name
        reason = f"decided at phase {when}, once the weights that it freezes have been trained"
        return self._not_stored(index, reason)

    def _verdicts(self, candidates: Mapping[Cut, Sequence[int]]) -> list[Verdict]:
        needs = [self._need(cut, indices) for cut, indices in candidates.items()]
        if all(need.on_disk for need in needs):
            return [on_disk(need) for need in needs]
        if self._settings.cache == "auto":
            train, view = self._cuts.examples["train"], self._cuts.training_views[0]
            seconds = [self._cuts.prefix((cut,)).seconds_per_row(train, view) for cut in candidates]
            needs = [
                replace(need, seconds_per_row=measured)
                for need, measured in zip(needs, seconds, strict=True)
            ]
        machine = this_machine(self._settings.directory, self._settings.max_bytes)
        return decide(needs, self._settings.cache, machine)

    def _need(self, cut: Cut, indices: Sequence[int]) -> Need:
        splits = list(dict.fromkeys(pair for index in indices for pair in self._cuts.splits(index)))
        entries = [self._cuts.entry(indices[0], split, view) for split, view in splits]
        return Need(
            epochs=sum(self._phases[index].epochs for index in indices),
            rows=self._num_rows(splits),
            rows_per_epoch=self._num_rows([("train", None), ("validation", None)]),
            bytes_per_row=self._bytes_per_row(cut),
            seconds_per_row=0.0,
            on_disk=all(self._store.has(entry.key) for entry in entries),
            required=any(self._phases[index].solver == "lbfgs" for index in indices),
        )

    def _num_rows(self, splits: Sequence[tuple[str, int | None]]) -> int:
        return sum(self._cuts.examples[split].num_examples for split, _ in splits)

    def _bytes_per_row(self, cut: Cut) -> int:
        return sum(spec.bytes_per_sample for spec in self._cuts.specs(cut))
