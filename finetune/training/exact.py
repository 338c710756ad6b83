"""The exact linear probe: multinomial logistic regression on stored features, by scikit-learn."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from finetune.features.batches import StoredExamples
from finetune.features.phase_cuts import PhaseCuts
from finetune.schedule.phase import Phase
from finetune.training.phase_data import PhaseData
from finetune.training.standardise import Statistics, statistics_of

log = logging.getLogger(__name__)

STRENGTHS = tuple(10.0**power for power in range(-4, 5))  # scikit-learn's C, weakest L2 last
_MAX_ITERATIONS = 1000
_ABSENT = 20.0  # how far the bias of a class without training samples is below the least bias


@dataclass(frozen=True)
class ExactHead:
    """The solution of a linear probe, and how it was found.

    Args:
        kernel: Kernel for plain features, (features, classes) float64.
        bias: Bias for plain features, (classes,) float64.
        strength: The chosen C, the inverse of the L2 strength.
        iterations: Number of L-BFGS iterations for the chosen C.
        validation_loss: Mean cross-entropy on the validation split, in nats.
    """

    kernel: np.ndarray
    bias: np.ndarray
    strength: float
    iterations: int
    validation_loss: float


def exact_head_problems(phases: Sequence[Phase], cuts: PhaseCuts) -> list[str]:
    """Returns why phases with ``solver: lbfgs`` cannot be solved exactly, one message a phase."""
    problems = (_problem(phase, index, cuts) for index, phase in enumerate(phases))
    return [problem for problem in problems if problem is not None]


def _problem(phase: Phase, index: int, cuts: PhaseCuts) -> str | None:
    if phase.solver != "lbfgs":
        return None
    where = f"schedule.phases.{phase.name}.solver must be gradient"
    head, targets = cuts.head(index), cuts.examples["train"].targets
    trainable = {id(cuts.inventory.variables[path]) for path in cuts.plans[index].trainable}
    if cuts.own_steps:
        return (
            f"{where} for a model with {', '.join(cuts.own_steps)} of its own, which the solver does "
            "not run. Received: lbfgs. Set solver=gradient."
        )
    if head is not None and head.terms:
        return (
            f"{where} where the head has a constraint, a regularizer, LoRA or a quantised "
            f"kernel, which the solver does not obey. Received: lbfgs with {', '.join(head.terms)}. Set "
            "solver=gradient, or build the head without them."
        )
    if head is None or not trainable.issuperset(map(id, head.weights)):
        return (
            f"{where} unless the phase trains a linear head on frozen features. Received: lbfgs "
            f"with {phase.policy}. Use freeze.policy=depth with unfreeze_depth=0, or solver=gradient."
        )
    if targets.ndim > 1:
        return (
            f"{where} where an example may have several labels or a share of some. Received: "
            "lbfgs. Set solver=gradient."
        )
    if len(np.unique(targets)) < 2:
        return (
            f"{where} where the training split has one class only. Received: lbfgs with "
            f"{len(targets)} examples. Raise dataset.max_samples."
        )
    if cuts.settings.cache == "never" or not cuts.training_views:
        return (
            f"{where} where no features are stored. Received: lbfgs with features.cache="
            f"{cuts.settings.cache}, features.views={cuts.settings.views}. Set features.cache=auto, "
            "and features.views where the data are augmented."
        )
    return None


def solve(data: PhaseData) -> ExactHead:
    """Fits the exact head to the stored features of a phase, all views, and puts it in place."""
    head, features = data.head, data.head_features
    if head is None or features is None or not data.stored:
        raise ValueError("The exact head needs stored features of a linear head.")
    train, validation = data.stored["train"], data.stored["validation"]
    num_views = len(train.views)
    exact = fit_exact_head(
        _features_of(train),
        np.tile(train.targets, num_views),
        _features_of(validation),
        validation.targets,
        weights=None if train.weights is None else np.tile(train.weights, num_views),
        num_classes=head.dense.units,
        statistics=statistics_of(features()),
    )
    for weight, value in zip(head.weights, (exact.kernel, exact.bias), strict=True):
        weight.assign(value)
    return exact


def _features_of(examples: StoredExamples) -> np.ndarray:
    views = [entry.arrays[0] for entry in examples.views]
    return np.concatenate(views).astype(np.float32)


def fit_exact_head(
    features: np.ndarray,
    labels: np.ndarray,
    validation_features: np.ndarray,
    validation_labels: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    num_classes: int,
    statistics: Statistics,
) -> ExactHead:
    """Fits one regression for each strength, from the one before, and keeps the best on validation.

    Args:
        features: Features of the training split, (n, features).
        labels: Class indices, (n,); at least two classes occur.
        validation_features: Features of the validation split, (m, features).
        validation_labels: Class indices, (m,).
        weights: Weights of the rows in the fit, (n,); None if all are alike.
        num_classes: Columns of the result; classes that do not occur get a bias that rules them out.
        statistics: Mean and scale of the training features. The fit is on standardised features,
            the result is for plain ones.
    """
    train = (features - statistics.mean) / statistics.scale
    held_out = (validation_features - statistics.mean) / statistics.scale
    best: ExactHead | None = None
    for strength, kernel, bias, iterations in _path(train, labels, weights, num_classes):
        loss = _cross_entropy(held_out @ kernel + bias, validation_labels)
        log.info("lbfgs C %g: %d iterations, validation loss %.5f", strength, iterations, loss)
        if best is None or loss < best.validation_loss:
            plain = kernel / statistics.scale[:, None]
            shifted = bias - statistics.mean @ plain
            best = ExactHead(plain, shifted, strength, iterations, loss)
    assert best is not None  # noqa: S101 - STRENGTHS is not empty
    return best


def _path(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, num_classes: int
) -> Iterator[tuple[float, np.ndarray, np.ndarray, int]]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=_MAX_ITERATIONS, warm_start=True)
    for strength in STRENGTHS:
        model.set_params(C=strength)
        with warnings.catch_warnings():
            # The weakest L2 may reach the limit of iterations; validation then decides.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features, labels, sample_weight=weights)
        kernel, bias = model.coef_.T, model.intercept_
        if len(model.classes_) == 2:  # two classes have one row, the logit of the second
            kernel, bias = np.hstack([0 * kernel, kernel]), np.append(0.0, bias)
        full_kernel = np.zeros((features.shape[1], num_classes))
        full_bias = np.full(num_classes, np.min(bias) - _ABSENT)
        full_kernel[:, model.classes_] = kernel
        full_bias[model.classes_] = bias
        yield strength, full_kernel, full_bias, int(np.max(model.n_iter_))


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    from scipy.special import log_softmax

    return float(-np.mean(log_softmax(logits, axis=1)[np.arange(len(labels)), labels]))
