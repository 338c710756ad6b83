"""The policy ``patterns``: regular expressions over weight paths, which cover every weight."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from finetune.errors import ConfigError
from finetune.freezing.policy import Policy, WeightInfo


@dataclass(frozen=True)
class Patterns(Policy):
    """Regular expressions over weight paths: `train` first, then `freeze`; the first match wins.

    Args:
        train: Regular expressions that match whole weight paths; what they match trains.
        freeze: The same for what is frozen, tried after `train`; every weight must be covered.
    """

    name: ClassVar[str] = "patterns"
    train: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()

    def problems(self, where: str) -> list[str]:
        """Checks that the patterns are regular expressions and do not contradict each other."""
        if not self._ordered:
            return [
                f"{where} must have train or freeze for policy patterns. Received: none. "
                f"Add {where}.train=…"
            ]
        found = []
        for key, patterns in (("train", self.train), ("freeze", self.freeze)):
            for index, pattern in enumerate(patterns):
                try:
                    re.compile(pattern)
                except (re.error, OverflowError, RecursionError) as error:
                    found.append(
                        f"{where}.{key}[{index}] must be a regular expression. Received: {pattern} "
                        f"({error}). Escape special characters with a backslash."
                    )
        for pattern in sorted(set(self.train) & set(self.freeze)):
            found.append(
                f"{where} must not train and freeze the same pattern: two rules disagree. "
                f"Received: {pattern} in both. Keep it in one list."
            )
        return found

    def select(
        self, weights: Sequence[WeightInfo], stage_names: Sequence[str], where: str
    ) -> set[str]:
        """Returns the weights whose first matching pattern is one of `train`."""
        paths = [weight.path for weight in weights if weight.can_train]
        matching = {
            path: [rule for rule in self._ordered if re.fullmatch(rule[1], path)] for path in paths
        }
        matched = {rule for rules in matching.values() for rule in rules}
        winning = {rules[0] for rules in matching.values() if rules}
        problems = []
        for key, pattern in dict.fromkeys(self._ordered):
            if (key, pattern) not in matched:
                problems.append(
                    f"{where}.{key} must match weights. Received: {pattern}, which matches no whole "
                    f"path. Paths look like {', '.join(paths[:2])}; `inspect` lists the stages."
                )
            elif (key, pattern) not in winning:
                problems.append(
                    f"{where}.{key} must win for some weight. Received: {pattern}; an earlier "
                    "pattern takes each of its weights, so the two rules disagree. Remove one of "
                    "them."
                )
        uncovered = [path for path, rules in matching.items() if not rules]
        if uncovered:
            shown = ", ".join(uncovered[:3]) + (" …" if len(uncovered) > 3 else "")
            problems.append(
                f"{where} must cover every weight. Received: patterns that leave {len(uncovered)} "
                f"without a rule ({shown}). End with freeze: ['.*']."
            )
        if problems:
            raise ConfigError(problems)
        return {path for path, rules in matching.items() if rules[0][0] == "train"}

    @property
    def _ordered(self) -> list[tuple[str, str]]:
        """The key and the pattern of each rule, in the order in which they are tried."""
        return [("train", p) for p in self.train] + [("freeze", p) for p in self.freeze]

    def __str__(self) -> str:
        return f"{self.name}({len(self.train)} train, {len(self.freeze)} freeze)"


POLICY = Patterns
