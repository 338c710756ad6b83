"""Which features a run stores: decided once for each phase, as soon as they can be taken."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from finetune.errors import ConfigError
from finetune.features.cut import Cut, unstorable
from finetune.features.entries import FeatureSettings
from finetune.features.feeding import Source
from finetune.features.machine import this_machine
from finetune.features.phase_cuts import PhaseCuts
from finetune.features.planner import Need, Verdict, decide, on_disk
from finetune.features.store import Store
from finetune.features.structure import UndescribedError
from finetune.record.schema import FeatureDecision
from finetune.schedule.phase import Phase


class Decisions:
    """The decisions of one run.

    Args:
        cuts: of its phases.
        phases: the schedule.
        settings: of the store.
        store: what is on disk already.
        source: the training split, to measure a forward pass on.
        decided: what an earlier process has decided, by index of the phase: it stays.
    """

    def __init__(
        self,
        cuts: PhaseCuts,
        phases: Sequence[Phase],
        settings: FeatureSettings,
        store: Store,
        source: Source,
        decided: Mapping[int, FeatureDecision],
    ) -> None:
        self._cuts, self._phases, self._settings = cuts, phases, settings
        self._store, self._source = store, source
        self._made = dict(decided)

    def made(self) -> dict[int, FeatureDecision]:
        """Returns the decisions so far, by index of the phase; they do not change any more."""
        return dict(self._made)

    def listed(self) -> list[FeatureDecision]:
        """Returns one decision a phase, in order; what cannot be decided yet says when it will."""
        return [self._made.get(i) or self._later(i) for i in range(len(self._phases))]

    def make(self, start: int) -> None:
        """Decides for the phases whose features can be extracted by the time phase `start` begins."""
        group = [i for i, r in enumerate(self._cuts.ready) if r <= start and i not in self._made]
        candidates: dict[Cut, list[int]] = {}
        for index in group:
            cut, reason = self._cuts.of_phase[index], self._why_not(index)
            if cut is None or reason is not None:
                self._refuse(index, reason or "")
            else:
                candidates.setdefault(cut, []).append(index)
        for cut in [each for each in candidates if self._mixes_rows(each, candidates[each])]:
            for index in candidates.pop(cut):
                self._refuse(index, "what a row gives depends on the other rows of its batch")
        if not candidates:
            return
        verdicts = self._verdicts(candidates)
        for (cut, indices), verdict in zip(candidates.items(), verdicts, strict=True):
            row = sum(spec.bytes_per_sample for spec in self._cuts.items.specs(cut))
            for index in indices:
                self._made[index] = FeatureDecision(
                    phase=self._phases[index].name,
                    cut=cut.name,
                    bytes_per_sample=row,
                    bytes=row
                    * sum(self._cuts.rows(split) for split, _ in self._cuts.splits(index)),
                    stored=verdict.stored,
                    reason=self._explained(index, verdict.reason),
                    saves_seconds=verdict.saves_seconds,
                    costs_seconds=verdict.costs_seconds,
                    below=self._cuts.below(index),
                )
                needed = "always" if self._settings.cache == "always" else None
                if self._phases[index].solver == "lbfgs":
                    needed = "solver lbfgs"
                if needed is not None and not verdict.stored:
                    raise ConfigError(
                        f"features.max_gib must let the features of phase "
                        f"{self._phases[index].name} be stored. Received: {needed}, but "
                        f"{verdict.reason}. Raise features.max_gib or free some disk."
                    )

    def _why_not(self, index: int) -> str | None:
        """Returns why a phase's features cannot be stored, whatever they would save."""
        cut = self._cuts.of_phase[index]
        if self._cuts.own_steps:
            steps = ", ".join(self._cuts.own_steps)
            return f"the model has {steps} of its own, which takes the model's inputs"
        if self._cuts.graph is None:
            return "the model is no functional graph"
        if cut is None:
            return "no frozen prefix"
        if self._settings.cache == "never":
            return "features.cache=never"
        if self._settings.mixed:
            return "the images of a batch are mixed (dataset.mix)"
        if not self._settings.training_views:
            return "random augmentation; features.views=K stores K views"
        kept_out = unstorable(self._cuts.graph, cut)
        if kept_out is not None:
            return f"the store holds numbers, and {kept_out} would have to be in it"
        if not all(self._cuts.items.specs(cut, split) for split, _ in self._cuts.splits(index)):
            return "the shape of its features differs from batch to batch"
        try:
            self._cuts.items.structure_sha256(cut)
        except UndescribedError:
            return "a layer below the cut has no full get_config"
        return None

    def _explained(self, index: int, reason: str) -> str:
        """Adds why a head is not standardised, and what keeps frozen weights above the cut."""
        names, frozen = self._cuts.awake[index]
        if names:
            verb = "is" if len(names) == 1 else "are"
            reason += (
                f"; {', '.join(names)} {verb} awake in training, below {frozen} frozen weights"
            )
        graph, cut = self._cuts.graph, self._cuts.of_phase[index]
        if graph is None:
            return reason
        head = self._cuts.head_of(cut)
        if self._settings.standardise and head is not None and head.terms:
            reason = f"{reason}; the head is not standardised: {', '.join(head.terms)}"
        if graph.unfixed:
            calls = [(graph.calls[i].operation.name, why) for i, why in graph.unfixed.items()]
            named = ", ".join(f"{name} ({why})" for name, why in dict.fromkeys(calls))
            reason = f"{reason}; no cut above {named}"
        below = {graph.calls[i].operation.name for i in (() if cut is None else cut.calls)}
        outside = [f"{name} ({why})" for name, why in graph.whole.items() if name not in below]
        return f"{reason}; not cut inside {', '.join(outside)}" if outside else reason

    def _mixes_rows(self, cut: Cut, indices: Sequence[int]) -> bool:
        """Tells whether features that are not on disk yet are no features of single rows."""
        if self._need(cut, indices).on_disk:
            return False
        view = self._settings.training_views[0]
        return self._cuts.prefix((cut,)).mixes_rows(self._source, view)

    def _refuse(self, index: int, reason: str) -> None:
        """Notes that a phase stores no features.

        Raises:
            ConfigError: for a phase whose solver needs them.
        """
        explained = self._explained(index, reason)
        phase = self._phases[index]
        if phase.solver == "lbfgs":
            raise ConfigError(
                f"schedule.phases.{phase.name}.solver must be gradient where features cannot be "
                f"stored. Received: lbfgs, but {explained}. Set solver=gradient."
            )
        self._made[index] = self._refused(index, explained)

    def _refused(self, index: int, reason: str) -> FeatureDecision:
        cut = self._cuts.of_phase[index]
        name = None if cut is None else cut.name
        below = self._cuts.below(index)
        return FeatureDecision(self._phases[index].name, name, reason, below=below)

    def _later(self, index: int) -> FeatureDecision:
        when = self._phases[self._cuts.ready[index]].name
        reason = f"decided at phase {when}, when what it freezes has trained"
        return self._refused(index, reason)

    def _verdicts(self, candidates: Mapping[Cut, Sequence[int]]) -> list[Verdict]:
        needs = [self._need(cut, indices) for cut, indices in candidates.items()]
        if all(need.on_disk for need in needs):
            return [on_disk(need) for need in needs]
        if self._settings.cache == "auto":
            source, view = self._source, self._settings.training_views[0]
            seconds = [
                self._cuts.prefix((cut,)).seconds_per_row(source, view) for cut in candidates
            ]
            needs = [
                replace(need, seconds_per_row=each)
                for need, each in zip(needs, seconds, strict=True)
            ]
        machine = this_machine(self._settings.directory, self._settings.max_bytes)
        return decide(needs, self._settings.cache, machine)

    def _need(self, cut: Cut, indices: Sequence[int]) -> Need:
        splits = dict.fromkeys(each for index in indices for each in self._cuts.splits(index))
        items = [self._cuts.item(indices[0], split, view) for split, view in splits]
        return Need(
            epochs=sum(self._phases[index].epochs for index in indices),
            rows=sum(self._cuts.rows(split) for split, _ in splits),
            rows_per_epoch=self._cuts.rows("train") + self._cuts.rows("validation"),
            bytes_per_row=sum(spec.bytes_per_sample for spec in items[0].specs),
            seconds_per_row=0.0,
            on_disk=all(self._store.has(item.key) for item in items),
            required=any(self._phases[index].solver == "lbfgs" for index in indices),
        )
