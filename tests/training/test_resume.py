"""A run killed at any step and resumed ends as one that was never killed, bit for bit."""

import shutil
import signal

import keras
import numpy as np
import pytest

from finetune.errors import ConfigError, FrozenWeightsError, StorageError, TrainingError
from finetune.record.files import to_values
from finetune.schedule.phase import Phase
from finetune.training.checkpoints import Checkpoint, Checkpoints
from finetune.training.phase_callback import PhaseCallback
from finetune.training.run_state import resume_point
from tests.helpers.resumable_runs import (
    ALL,
    PHASES,
    PROBE,
    Killed,
    Run,
    assert_same,
    interrupt_at,
    kill_at,
    position_of,
)

pytestmark = pytest.mark.usefixtures("deterministic", "every_epoch_is_kept")


def test_the_schedule_has_what_makes_resuming_hard(never_killed):
    record, variables = never_killed()
    assert [p["stopped_by"] for p in record["phases"]] == ["epochs", "patience", "epochs"]
    top = record["phases"][1]
    assert top["best_epoch"] < 2 + top["epochs_run"] - 1  # the best weights are not the last
    assert any("seed" in variable.path for variable in Run(None).inventory.model.variables)


def kept_in(directory):
    """Returns the position of the last checkpoint, and the steps of the run until there."""
    position = position_of(directory)
    return position, position.epoch * 3 + position.step


# A run is killed at each of these steps in turn. 1: the first of all; 8 and 17, 5 and 20: inside
# epochs of later phases; 3, 12: the last of an epoch.
@pytest.mark.parametrize(("steps", "minutes"), [([1, 8, 17], None), ([3, 5, 12, 20], 0.0)])
def test_killed_at_steps_and_after_the_last_phase(tmp_path, never_killed, steps, minutes):
    def die():
        raise Killed

    done = 0
    for step in steps:
        again = Run(tmp_path, kill_at(step - done), minutes=minutes)
        with pytest.raises(Killed):
            again.run()
        assert done + again.spy.steps == step  # none is taken twice
        _, done = kept_in(tmp_path)
        assert done == (step - 1 if minutes == 0.0 else (step - 1) // 3 * 3)
    last = Run(tmp_path, minutes=minutes, finish=die)
    with pytest.raises(Killed):
        last.run()
    assert last.spy.steps == 3 * len(last.record.history) // 2 - done
    finished = []  # only the test is left
    again = Run(tmp_path, minutes=minutes, finish=lambda: finished.append(1)).run()
    assert again.spy.steps == 0 and finished == [1]
    assert_same(again.end(), never_killed())


def test_asked_to_stop_it_is_kept_to_the_step(tmp_path, never_killed, monkeypatch):
    def stopped_at(step, run):
        with pytest.raises(KeyboardInterrupt):
            run.run()
        assert run.record.status == "interrupted"
        position, done = kept_in(tmp_path)
        assert (done, bool(position.logs)) == (step, step % 3 == 0)
        return position

    stopped_at(2, Run(tmp_path, interrupt_at(2)))
    events = []

    def stop(self, batch, logs=None):
        events.append(batch)
        if len(events) == 4:  # the first batch of the second epoch's validation
            signal.raise_signal(signal.SIGTERM)
        return validated(self, batch, logs)

    validated = PhaseCallback.on_test_batch_end
    with monkeypatch.context() as patch:
        patch.setattr(PhaseCallback, "on_test_batch_end", stop)
        position = stopped_at(6, Run(tmp_path))
    assert (position.epoch, position.step) == (1, 3)
    stopped_at(9, Run(tmp_path, interrupt_at(3)))
    assert_same(Run(tmp_path).run().end(), never_killed())


def test_killed_again_and_again(tmp_path, never_killed):
    settings = {"standardise": True, "optimizer": "rmsprop"}
    phases = [PHASES[0], Phase("all", 1, 0.01, ALL), Phase("again", 2, 0.1, PROBE)]
    killed = 0
    while True:
        try:
            process = Run(tmp_path, kill_at(5), phases=phases, minutes=0.0, **settings).run()
            break
        except Killed:
            killed += 1
    assert killed == 3  # 15 steps, of which each killed process keeps 4
    assert_same(process.end(), never_killed(phases=phases, **settings))
    assert len(process.record.resumed) == 3


def test_the_loss_scale_of_mixed_precision_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "clear_session", lambda: None)  # it resets the policy
    phases = [PHASES[2]]
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        whole = Run(None, phases=phases).run()
        assert isinstance(whole.inventory.model.optimizer, keras.optimizers.LossScaleOptimizer)
        with pytest.raises(Killed):
            Run(tmp_path, kill_at(5), phases=phases, minutes=0.0).run()
        scales = Checkpoints(tmp_path).latest(resume_point).arrays["training"]
        assert scales["scale:step_counter"] == 4
        assert_same(Run(tmp_path, phases=phases).run().end(), whole.end())
    finally:
        keras.config.set_dtype_policy(policy)


def test_weights_that_never_moved_are_kept_where_nothing_else_has_them(tmp_path, never_killed):
    with pytest.raises(Killed):
        Run(tmp_path, kill_at(4), whole=True).run()
    assert len(Checkpoints(tmp_path).latest(resume_point).arrays["weights"]) == 15
    # A model with other weights goes on as if it had the first one's.
    assert_same(Run(tmp_path, whole=True, seed=5).run().end(), never_killed())


@pytest.mark.parametrize("minutes", [None, 0.0])
def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(tmp_path, minutes, caplog):
    phases = [Phase("calm", 1, 0.01, PROBE), Phase("hot", 3, 1e38, ALL)]
    with pytest.raises(TrainingError, match="phase hot, epoch 1, step 1, at learning rate 1e"):
        Run(tmp_path, phases=phases, optimizer="sgd", minutes=minutes).run()
    # The update of step 0 has spoilt the weights before a loss shows it.
    assert ("is not finite: it is set aside" in caplog.text) == (minutes == 0.0)
    checkpoint = Checkpoints(tmp_path).latest(resume_point)
    assert checkpoint.state.position.phase == 1
    assert all(np.isfinite(value).all() for value in checkpoint.arrays["weights"].values())


def test_only_what_has_moved_is_kept_where_the_rest_can_be_loaded(killed):
    shutil.rmtree(max(killed.iterdir()))  # what is left is from within the phase probe
    checkpoint = Checkpoints(killed).latest(resume_point)
    assert sorted(checkpoint.arrays["weights"]) == ["logits/bias", "logits/kernel"]
    with pytest.raises(FrozenWeightsError, match="phase probe must resume with the held weights"):
        Run(killed, seed=5).run()


def test_a_full_disk_and_damage_leave_the_checkpoint_before(tmp_path, never_killed, monkeypatch):
    from finetune.training import checkpoints

    def full(arrays, path):
        raise checkpoints.SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    def fill(steps):
        if steps == 5:
            monkeypatch.setattr(checkpoints, "save_file", full)

    with pytest.raises(
        StorageError, match=r"must have room.*No space left.*what was written before"
    ):
        Run(tmp_path, fill).run()
    monkeypatch.undo()
    assert kept_in(tmp_path)[1] == 3
    with pytest.raises(Killed):  # there is room again: it goes on, here for 5 steps
        Run(tmp_path, kill_at(5)).run()
    assert kept_in(tmp_path)[1] == 6
    newest = max(tmp_path.iterdir())
    (newest / "weights.safetensors").write_bytes(b"")
    assert_same(Run(tmp_path).run().end(), never_killed())
    assert (tmp_path / f"{newest.name}.damaged").is_dir()


def test_a_checkpoint_of_another_model_is_refused(killed):
    checkpoints = Checkpoints(killed)
    checkpoint = checkpoints.latest(resume_point)
    arrays = dict(checkpoint.arrays)
    arrays["weights"] = {"logits/kernel": np.zeros((9, 9), np.float32)}
    checkpoints.save(Checkpoint(arrays, to_values(checkpoint.state)))
    with pytest.raises(ConfigError, match=r"must be of this model.*logits/kernel \(9, 9\)"):
        Run(killed).run()


def test_what_has_begun_cannot_be_changed(killed):
    for phases in (
        [Phase("other", 2, 0.1, PROBE), *PHASES[1:]],
        [Phase("probe", 2, 0.1, ALL), *PHASES[1:]],
        [Phase("probe", 2, 0.1, PROBE, batch_norm="train"), *PHASES[1:]],
    ):
        with pytest.raises(ConfigError, match="must start with the phases that have started"):
            Run(killed, phases=phases).run()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"monitor": "macro_f1"},
            r"schedule\.phases\.probe\.monitor must stay loss: phase probe has",
        ),
        (
            {"solver": "lbfgs"},
            r"schedule\.phases\.probe\.solver must stay gradient: phase probe has",
        ),
    ],
)
def test_the_phase_in_progress_keeps_its_monitor_and_solver(tmp_path, change, message):
    with pytest.raises(Killed):
        Run(tmp_path, kill_at(5)).run()
    other = Phase("probe", 2, 0.1, PROBE, **change)
    with pytest.raises(ConfigError, match=message):
        Run(tmp_path, phases=[other, *PHASES[1:]]).run()


def test_a_completed_phase_may_get_another_monitor(tmp_path):
    with pytest.raises(Killed):
        Run(tmp_path, kill_at(7)).run()
    assert position_of(tmp_path).phase == 1
    other = Phase("probe", 2, 0.1, PROBE, monitor="accuracy")
    run = Run(tmp_path, phases=[other, Phase("all", 1, 0.01, ALL)]).run()
    assert run.record.status == "completed"


def test_another_rate_is_written_down(tmp_path):
    with pytest.raises(Killed):
        Run(tmp_path, kill_at(5)).run()
    run = Run(tmp_path, phases=[Phase("probe", 3, 0.025, PROBE)]).run()
    assert run.record.phases[0].epochs_planned == 3
    rows = [row.learning_rate for row in run.record.history if row.split == "train"]
    assert rows == [0.1, 0.025, 0.025]
