"""Stored views of augmented images train as the images themselves do."""

import numpy as np
import pytest

from finetune.errors import ConfigError
from finetune.training.checkpoints import Checkpoints
from finetune.training.run_state import resume_point
from tests.helpers.training_runs import train_run

EPOCHS = 3


def train(directory, *overrides):
    (directory / "run").mkdir(parents=True)
    overrides = [
        "experiment=resnet_probe", "dataset.max_samples=50", "dataset.augment=light",
        f"schedule.phases.head.epochs={EPOCHS}", f"features.dir={directory}/features", *overrides,
    ]  # fmt: skip
    record = train_run(directory / "run", overrides)
    return record, Checkpoints(directory / "run/checkpoints").latest(resume_point).arrays["weights"]


@pytest.fixture(scope="module")
def recomputed(tmp_path_factory):
    return train(tmp_path_factory.mktemp("augmented") / "never", "features.cache=never")


def test_as_many_views_as_epochs_are_exact(recomputed, tmp_path):
    record, weights = train(tmp_path / "views", "features.cache=always", f"features.views={EPOCHS}")
    phase, expected = record.phases[0], recomputed[0].phases[0]
    # Test has 50 samples too; the training split is read once for each view.
    assert phase.features["samples_extracted"] == 50 * (EPOCHS + 2)
    for split in ("train", "validation"):
        assert phase.metrics[split]["loss"] == pytest.approx(
            expected.metrics[split]["loss"], rel=1e-4
        )
    for name, value in recomputed[1].items():
        np.testing.assert_allclose(weights[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_fewer_views_are_shared_by_epochs(recomputed, tmp_path):
    record, weights = train(tmp_path / "few", "features.cache=always", "features.views=2")
    assert record.phases[0].features["samples_extracted"] == 50 * 4
    assert any(not np.allclose(weights[k], v, rtol=1e-4) for k, v in recomputed[1].items())


def test_no_views_are_never_silently_one(recomputed, tmp_path):
    record, weights = train(tmp_path / "auto")
    decision = record.features[0]
    assert not decision.stored
    assert decision.reason == "random augmentation; features.views=K stores K views"
    for name, value in recomputed[1].items():
        np.testing.assert_array_equal(weights[name], value, err_msg=name)
    with pytest.raises(ConfigError, match="features.views must be at least 1"):
        train(tmp_path / "always", "features.cache=always")
