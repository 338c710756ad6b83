"""The model card of a trained model, `model/README.md`, in the format of model hubs.

It does not depend on time or place, so a resumed run writes the same bytes.
"""

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import yaml
from markupsafe import Markup

from finetune.config.schema import PATHS
from finetune.printable import printable
from finetune.record.schema import STATES, PhaseRecord, RunRecord, count_text, non_trainable
from finetune.reporting.loading_code import loading_code
from finetune.reporting.markdown import render
from finetune.reporting.remarks import interval_text, remarks

UNKNOWN = "to be filled in: not known to the program"
# Licences of the catalog by https://huggingface.co/docs/hub/repositories-licenses.
HUB_LICENCES = {"Apache-2.0": "apache-2.0"}
MOST_CLASSES = 100  # classes in the card; labels.json lists all
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)
_PIPELINES = {"image": "image-classification", "text": "text-classification"}
# Type and name in Hugging Face's model-index; other metrics keep their names.
_METRICS = {
    "accuracy": ("accuracy", "Accuracy"),
    "macro_f1": ("f1", "Macro F1"),
    "micro_f1": ("f1", "Micro F1"),
    "top_5_accuracy": ("accuracy", "Top-5 accuracy"),
}


@dataclass(frozen=True)
class CardFacts:
    """Facts of a model card that are not in the record.

    Args:
        kind: Kind of the examples: ``image``, ``text`` or ``array``.
        task: Class of `keras_hub.models` that loads the directory; None for ``model.keras``.
        multi_label: Whether an example may have any number of labels.
        from_logits: Whether the outputs are logits rather than probabilities.
        weights_licence: Licence of the pretrained weights; None if unknown.
        data_licence: Licence of the dataset; None if unknown.
        base_model: Name of the pretrained weights on Hugging Face, ``owner/name``; None if unknown.
    """

    kind: str
    task: str | None
    multi_label: bool
    from_logits: bool = True
    weights_licence: str | None = None
    data_licence: str | None = None
    base_model: str | None = None


def model_card(record: RunRecord, facts: CardFacts) -> str:
    """Returns the card of a trained model: YAML front matter for a hub, then Markdown."""
    config = _without_places(record.config)
    return render(
        "model_card.md",
        record=record,
        facts=facts,
        unknown=UNKNOWN,
        front=Markup(yaml.safe_dump(_front_matter(record, facts), **_YAML)),
        title=_title(record),
        summary=_summary(record, facts),
        contents=_contents(facts),
        loading=loading_code(facts.kind, facts.task, facts.multi_label, facts.from_logits),
        test=_finite(record.test),
        interval=None if record.test_interval is None else interval_text(record.test_interval),
        per_class=record.test_per_class if len(record.test_per_class) <= MOST_CLASSES else [],
        classes=_listed(record.dataset.classes),
        remarks=list(remarks(record.dataset, named_in=None)),
        phases=[_phase(phase) for phase in record.phases],
        command=_command(record),
        versions=", ".join(f"{name} {version}" for name, version in record.versions.items()),
        config=yaml.safe_dump(config, **_YAML),
    )


_YAML: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": math.inf}


def _front_matter(record: RunRecord, facts: CardFacts) -> dict[str, Any]:
    """Returns the metadata for a hub; see https://huggingface.co/docs/hub/model-cards."""
    pipeline = _PIPELINES.get(facts.kind)
    dataset = printable(record.dataset.name)
    licence = HUB_LICENCES.get(facts.weights_licence or "")
    metrics = _finite(record.test)
    front: dict[str, Any] = {"license": licence or "other"}
    if licence is None:
        front["license_name"] = "to-be-filled-in"
    front["library_name"] = "keras" if facts.kind == "array" else "keras-hub"
    if pipeline is not None:
        front["pipeline_tag"] = pipeline
    if facts.base_model is not None:
        front["base_model"] = facts.base_model
    front["tags"] = ["keras", "finetune", "transfer-learning"]
    if facts.multi_label:
        front["tags"].append("multi-label")
    if _HUB_NAME.fullmatch(dataset):
        front["datasets"] = [dataset]
    if metrics:
        front["metrics"] = list(dict.fromkeys(_METRICS[n][0] for n in metrics if n in _METRICS))
        result = {
            "task": {"type": pipeline or "other"},
            "dataset": {"type": dataset, "name": dataset, "split": "test"},
            "metrics": [
                dict(zip(("type", "name"), _METRICS.get(name, (name, name)), strict=True))
                | {"value": value}
                for name, value in metrics.items()
            ],
        }
        front["model-index"] = [{"name": _title(record), "results": [result]}]
    return front


def _title(record: RunRecord) -> str:
    return printable(f"{record.backbone.name} on {record.dataset.name}")


def _summary(record: RunRecord, facts: CardFacts) -> str:
    examples = {"image": "images", "text": "texts"}.get(facts.kind, "examples")
    labels = " with any number of labels each" if facts.multi_label else ""
    phases = "1 phase" if len(record.phases) == 1 else f"{len(record.phases)} phases"
    total = record.phases[-1].weight_counts["total"] if record.phases else None
    size = (
        "" if total is None else f" {total['weights']} weights, {total['parameters']:,} parameters."
    )
    if record.backbone.own:
        model = f"{record.backbone.name}, a Keras model"
    elif record.config.get("backbone", {}).get("load_weights", True):
        model = f"{record.backbone.name} (pretrained, {record.backbone.source}) with a new head"
    else:
        model = f"The architecture of {record.backbone.name} with random weights and a head"
    return (
        f"{model}, for {record.dataset.num_classes} classes of {examples}{labels}. It was fine-tuned "
        f"in {phases} by finetune {record.versions['finetune']}.{size}"
    )


def _contents(facts: CardFacts) -> str:
    if facts.task is not None:
        more = ", and tensorflow-text for the tokenizer" if facts.kind == "text" else ""
        return f"This directory is a KerasHub preset. Loading it requires KerasHub{more}."
    if facts.kind == "array":
        return "model.keras is the whole model. Register custom layers with Keras before loading."
    return "model.keras is the whole model, with its preprocessing beside it. KerasHub reads both."


def _phase(phase: PhaseRecord) -> dict[str, str]:
    """Returns the cells of a phase for both tables."""
    proof, validation = phase.frozen_proof, _finite(phase.metrics.get("validation", {}))
    cells = {
        "name": phase.name,
        "policy": f"{phase.policy}, BatchNorm {phase.batch_norm}",
        "epochs": f"{phase.epochs_run} of {phase.epochs_planned}",
        "rates": ", ".join(f"{stage} {rate:g}" for stage, rate in phase.learning_rates.items()),
        "held": "–" if proof is None else str(proof.weights_checked),
        "changed": "–" if proof is None else str(proof.weights_changed),
        "sha256": "–" if proof is None else proof.sha256_after,
    }
    for state in STATES:
        cells[state] = count_text(phase.weight_counts[state])
    cells["non_trainable"] = count_text(non_trainable(phase.weight_counts))
    for key in ("loss", "accuracy"):
        cells[key] = f"{validation[key]:.4f}" if key in validation else "–"
    return cells


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if math.isfinite(value)}


def _listed(classes: list[str]) -> str:
    more = f", … (labels.json lists all {len(classes)})" if len(classes) > MOST_CLASSES else ""
    return ", ".join(classes[:MOST_CLASSES]) + more


def _command(record: RunRecord) -> str:
    """Returns the command of the run, with paths shortened to their last part."""
    shown = []
    for override in record.overrides:
        key, equals, value = override.partition("=")
        place = key.lstrip("+") in PATHS and equals
        shown.append(f"{key}={PurePath(value.strip(_QUOTES)).name}" if place else override)
    if record.backbone.own:
        return f"# finetune.FineTuner(model, …, overrides={shown}).fit(…)"
    return shlex.join(["python", "-m", "finetune", *shown])


_QUOTES = "'\""


def _without_places(config: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Returns a config with paths shortened to their last part."""
    shown: dict[str, Any] = {}
    for key, value in config.items():
        path = f"{where}{key}"
        if isinstance(value, Mapping):
            shown[key] = _without_places(value, f"{path}.")
        elif path in PATHS and value is not None:
            shown[key] = PurePath(value).name
        else:
            shown[key] = value
    return shown
