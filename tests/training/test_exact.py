"""The exact linear probe: its preconditions, all reported at once, and its optimum."""

from dataclasses import replace

import keras
import pytest

from finetune.errors import ConfigError
from finetune.freezing.policies.patterns import Patterns
from finetune.schedule.phase import Phase
from finetune.training.exact import solve
from finetune.training.phase_data import phase_data
from tests.helpers.feature_runs import BATCHES, build, make_source, progressive, train
from tests.helpers.tiny_model import make_tiny


def test_lbfgs_needs_stored_features_and_a_linear_head(tmp_path):
    (phase,) = progressive(0)
    (deep,) = progressive(1)
    for wrong, cache, message in (
        (phase, "never", "where no features are stored"),
        (deep, "auto", "unless the phase trains a linear head on frozen features"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(make_tiny, [replace(wrong, solver="lbfgs")], tmp_path, cache)


def test_lbfgs_trains_kernel_and_bias_or_is_refused(tmp_path):
    rule = Patterns(train=("logits/bias",), freeze=(".*",))
    with pytest.raises(ConfigError, match="unless the phase trains a linear head"):
        train(make_tiny, [Phase("bias", 1, 1e-3, rule, solver="lbfgs")], tmp_path, "auto")
    exact = [replace(progressive(0)[0], solver="lbfgs")]
    with pytest.raises(ConfigError, match=r"features\.max_gib must let.*solver lbfgs"):
        train(make_tiny, exact, tmp_path, "auto", max_bytes=10)


def test_the_exact_head_is_the_optimum_and_the_next_phase_starts_from_it(tmp_path):
    exact = replace(progressive(0, epochs=1)[0], solver="lbfgs")
    run = train(make_tiny, [exact, *progressive(1, epochs=1, rate=1e-9)], tmp_path, cache="auto")
    assert run.decisions[0].stored
    phase = run.record.phases[0]
    assert phase.stopped_by == "optimum" and phase.solver["iterations"] > 0
    losses = [row.loss for row in run.rows if row.split == "validation"]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    # No gradient training of the same head comes below it on validation, whatever its length.
    (long,) = progressive(0, epochs=40, rate=1e-2)
    trained = train(make_tiny, [replace(long, restore_best=True)], tmp_path)
    best = min(row.loss for row in trained.rows if row.split == "validation")
    assert losses[0] <= best * 1.05
    assert keras.backend.backend() == "tensorflow"


def test_all_that_keeps_phases_from_being_solved_or_stored_is_reported_at_once(tmp_path):
    phases = [replace(phase, solver="lbfgs") for phase in progressive(0, 1)]
    with pytest.raises(ConfigError) as caught:
        make_source(build(), phases, tmp_path, "always", augmentation="light")
    views, probe, deeper = caught.value.problems
    assert views.startswith("features.views must be at least 1")
    assert probe.startswith("schedule.phases.depth0.solver must be gradient where no features")
    assert deeper.startswith("schedule.phases.depth1.solver must be gradient unless the phase")
    assert not list(tmp_path.iterdir())


def test_data_without_stored_features_is_not_solved():
    computed = phase_data(None, build().examples, BATCHES)
    with pytest.raises(ValueError, match="needs stored features of a linear head"):
        solve(computed)
