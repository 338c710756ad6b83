"""Freeze policies: from a rule to the set of weights that train. Pure; no Keras object is seen.

Policies other than ``patterns`` act on the backbone; the head always trains.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finetune.backbones import HEAD
from finetune.errors import ConfigError, unknown_name
from finetune.freezing.inventory import WeightInfo


@dataclass(frozen=True)
class FreezeRule:
    """A policy and its own keys, as the config gives them.

    Args:
        policy: ``depth``, ``stages``, ``patterns``, ``bias_only``, ``norm_only``, ``all``, ``none``.
        unfreeze_depth: for ``depth``: how many stages, counted from the head, train.
        stages: for ``stages``: the names of those that train.
        train: for ``patterns``: regular expressions that must match the whole weight path.
        freeze: for ``patterns``: likewise, tried after `train`.
    """

    policy: str
    unfreeze_depth: int | None = None
    stages: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()

    def __str__(self) -> str:
        detail = {
            "depth": str(self.unfreeze_depth),
            "stages": ", ".join(self.stages),
            "patterns": f"{len(self.train)} train, {len(self.freeze)} freeze",
        }.get(self.policy)
        return self.policy if detail is None else f"{self.policy}({detail})"


def resolve(
    rule: FreezeRule, infos: Sequence[WeightInfo], stage_names: Sequence[str], where: str
) -> frozenset[str]:
    """Returns the paths of the weights that train.

    Args:
        rule: the policy.
        infos: every weight of the model.
        stage_names: backbone stages from input to output, then ``head``.
        where: the config path of the rule, for messages.

    Raises:
        ConfigError: if a depth is out of range, a stage or pattern matches nothing, a weight is
            covered by no pattern, or nothing would train.
    """
    chosen = _POLICIES[rule.policy](rule, infos, stage_names, where)
    trainable = frozenset(info.path for info in infos if info.can_train and info.path in chosen)
    if not trainable:
        raise ConfigError(
            f"{where} must leave something to train. Received: {rule}, which freezes every weight. "
            "Train at least the head."
        )
    return trainable


def _select(infos: Sequence[WeightInfo], keep: Callable[[WeightInfo], bool]) -> set[str]:
    return {info.path for info in infos if info.stage == HEAD or keep(info)}


def _depth(
    rule: FreezeRule, infos: Sequence[WeightInfo], stage_names: Sequence[str], where: str
) -> set[str]:
    backbone = [name for name in stage_names if name != HEAD]
    depth = rule.unfreeze_depth
    if depth is None or not 0 <= depth <= len(backbone):
        raise ConfigError(
            f"{where}.unfreeze_depth must be 0..{len(backbone)} (the backbone has "
            f"{len(backbone)} stages: {', '.join(backbone)}{_shared(infos)}). Received: {depth}. "
            f"Use {len(backbone)} to train every stage."
        )
    unfrozen = set(backbone[len(backbone) - depth :])
    return _select(infos, lambda info: info.stage in unfrozen)


def _shared(infos: Sequence[WeightInfo]) -> str:
    """Names the stages that run more than once, as in ALBERT: a depth counts each of them once."""
    uses = {info.stage: info.uses for info in infos if info.uses > 1}
    named = ", ".join(f"{stage} {number} times" for stage, number in uses.items())
    return f"; it runs {named} with the same weights" if uses else ""


def _stages(
    rule: FreezeRule, infos: Sequence[WeightInfo], stage_names: Sequence[str], where: str
) -> set[str]:
    trainable = {info.stage for info in infos if info.can_train}
    problems = []
    for name in rule.stages:
        if name not in stage_names:
            problems.append(unknown_name(f"{where}.stages", "stage names", name, stage_names))
        elif name not in trainable:
            problems.append(
                f"{where}.stages must name stages with weights that can train. Received: {name}, "
                "which has none. Remove it."
            )
    if problems:
        raise ConfigError(problems)
    return _select(infos, lambda info: info.stage in rule.stages)


def _patterns(
    rule: FreezeRule, infos: Sequence[WeightInfo], stage_names: Sequence[str], where: str
) -> set[str]:
    ordered = [("train", pattern) for pattern in rule.train]
    ordered += [("freeze", pattern) for pattern in rule.freeze]
    paths = [info.path for info in infos if info.can_train]
    won: dict[str, str] = {}
    hits = dict.fromkeys(ordered, 0)
    matched = dict.fromkeys(ordered, 0)
    for path in paths:
        for key, pattern in ordered:
            if re.fullmatch(pattern, path):
                matched[key, pattern] += 1
                if path not in won:
                    won[path] = key
                    hits[key, pattern] += 1
    problems = []
    for (key, pattern), count in hits.items():
        if count == 0 and matched[key, pattern] == 0:
            problems.append(
                f"{where}.{key} must match weights. Received: {pattern}, which matches no whole "
                f"path. Paths look like {', '.join(paths[:2])}; `inspect` lists the stages."
            )
        elif count == 0:
            problems.append(
                f"{where}.{key} must win for some weight. Received: {pattern}; an earlier pattern "
                "takes each of its weights, so the two rules disagree. Remove one of them."
            )
    uncovered = [path for path in paths if path not in won]
    if uncovered:
        shown = ", ".join(uncovered[:3]) + (" …" if len(uncovered) > 3 else "")
        problems.append(
            f"{where} must cover every weight. Received: patterns that leave {len(uncovered)} "
            f"without a rule ({shown}). End with freeze: ['.*']."
        )
    if problems:
        raise ConfigError(problems)
    return {path for path, key in won.items() if key == "train"}


_POLICIES: dict[str, Callable[[FreezeRule, Sequence[WeightInfo], Sequence[str], str], set[str]]] = {
    "depth": _depth,
    "stages": _stages,
    "patterns": _patterns,
    "bias_only": lambda rule, infos, names, where: _select(infos, lambda info: info.is_bias),
    "norm_only": lambda rule, infos, names, where: _select(infos, lambda info: info.is_norm),
    "all": lambda rule, infos, names, where: _select(infos, lambda info: False),
    "none": lambda rule, infos, names, where: _select(infos, lambda info: True),
}
