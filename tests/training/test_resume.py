"""A run killed at any step and taken up again ends as one that was never killed, bit for bit."""

import json
import shutil
import signal

import keras
import numpy as np
import pytest
from tensorflow.python.framework import config as tf_config

from finetune.datasets.dataset import Split
from finetune.datasets.pipeline import Examples, evaluation_batches, training_batches
from finetune.datasets.readers import ArrayReader
from finetune.errors import ConfigError, FrozenWeightsError, StorageError, TrainingError
from finetune.evaluation.metrics import report
from finetune.features.cut import LinearHead
from finetune.freezing.inventory import take_inventory, to_numpy
from finetune.freezing.plan import make_plan
from finetune.freezing.policies.depth import Depth
from finetune.freezing.policies.none import NothingFrozen
from finetune.record.files import to_values
from finetune.record.listener import Listener
from finetune.record.schema import BackboneRecord, DatasetRecord, RunRecord
from finetune.schedule.phase import Phase
from finetune.storage.sealed import digest_of
from finetune.tasks.objective import ONE, Objective
from finetune.training import checkpointer
from finetune.training.checkpointer import Checkpointer
from finetune.training.checkpoints import Checkpoint, Checkpoints
from finetune.training.compiled_steps import CompiledSteps
from finetune.training.optimizers import OptimizerSettings
from finetune.training.phase_callback import PhaseCallback
from finetune.training.phase_data import PhaseData, SamePhaseData
from finetune.training.phase_run import PhaseRun
from finetune.training.run_state import resume_point
from finetune.training.setup import TrainingSetup
from finetune.training.trainer import Trainer
from tests.helpers.tiny_model import make_tiny

PROBE = Depth(0)
TOP = Depth(1)
ALL = NothingFrozen()
# 3 steps an epoch: a probe, a phase that stops early and ends with its best weights, all of it.
PHASES = [
    Phase("probe", 2, 0.1, PROBE),
    Phase("top", 6, 0.2, TOP, batch_norm="train", patience=1, restore_best=True),
    Phase("all", 2, 0.01, ALL, batch_norm="train", stage_lr_decay=0.5),
]
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(20, 8, 8, 1)).astype("float32")
LABELS = (IMAGES.mean((1, 2, 3)) > 0).astype("int32")


class Killed(BaseException):
    """Stands for SIGKILL: nothing is saved on the way out."""


class Spy(Listener):
    """Counts the steps of one process, and calls `on_step` at each."""

    def __init__(self, on_step=lambda steps: None):
        self.steps, self.on_step = 0, on_step

    def step(self, phase, epoch, step, num_steps, logs):
        self.steps += 1
        self.on_step(self.steps)


class Run:
    """One process of a run: a model built anew, and a trainer for it."""

    def __init__(
        self, directory, on_step=lambda steps: None, *, phases=PHASES, optimizer="adam",
        minutes=None, whole=False, standardise=False, seed=0, finish=None,
    ):  # fmt: skip
        self.inventory = take_inventory(*make_tiny(dropout=0.2, seed=seed))
        model = self.inventory.model
        split = Split("train", IMAGES, LABELS, "", None)
        examples = Examples(split, ArrayReader(), LABELS)

        def training(first, last, skip=0):
            return training_batches(
                examples, batch_size=8, seed=3, first_epoch=first, last_epoch=last, skip=skip
            )

        def evaluation():
            return evaluation_batches(examples, batch_size=8)

        head = {}
        if standardise:
            dense = model.get_layer("logits")
            below = keras.Model(model.inputs, model.get_layer("pooler").output)
            head = {
                "head": LinearHead(dense, dense),
                "head_features": lambda: iter([below.predict(IMAGES, verbose=0)]),
            }
        data = PhaseData(model, training, evaluation, evaluation, 3, **head)
        plans = [
            make_plan(p, self.inventory.infos, self.inventory.stage_names, self.inventory.upkeep)
            for p in phases
        ]
        self.record = RunRecord(
            config={"dataset": {"batch_size": 8}}, overrides=[], seed=0, versions={}, device={},
            backbone=BackboneRecord(name="tiny", source="t", weights_sha256="", stages=[]),
            dataset=DatasetRecord(name="noise", fingerprint="", num_classes=3, classes=[],
                                  splits={}),
        )  # fmt: skip
        self.spy, objective = Spy(on_step), Objective(ONE, 3)
        kept = None
        if directory is not None:
            checkpoints = Checkpoints(directory)
            kept = Checkpointer(checkpoints, minutes, checkpoints.latest(resume_point))
        self.setup = TrainingSetup(
            CompiledSteps(self.inventory, objective), tuple(phases), tuple(plans),
            SamePhaseData(data), OptimizerSettings(optimizer), LABELS,
            save_all_weights=whole,
        )  # fmt: skip
        self.trainer = Trainer(self.setup, self.record, self.spy, kept)
        self.finish = finish
        self.assess = lambda outputs: report(outputs, LABELS, "abc", objective)

    def run(self):
        self.trainer.run(self.assess, self.finish)
        return self

    def end(self):
        """Returns all that the run came to, timing aside."""
        values = to_values(self.record)
        for phase in values["phases"]:
            del phase["seconds"]
        for row in values["history"]:
            del row["seconds"]
        kept = {
            k: values[k]
            for k in ("phases", "history", "test", "test_per_class", "test_details", "status")
        }
        variables = {str(i): to_numpy(v) for i, v in enumerate(self.inventory.model.variables)}
        optimizers = self.setup.optimizers.state()
        return kept, variables | optimizers


def at(start):
    return start.state.position


def kill_at(step):
    def on_step(steps):
        if steps == step:
            raise Killed

    return on_step


def interrupt_at(step):
    def on_step(steps):
        if steps == step:
            signal.raise_signal(signal.SIGTERM)

    return on_step


@pytest.fixture(autouse=True, scope="module")
def deterministic():
    """TensorFlow's kernels give the same bits each time."""
    tf_config.enable_op_determinism()
    yield
    tf_config.disable_op_determinism()


@pytest.fixture(autouse=True)
def every_epoch_is_kept(monkeypatch):
    """As if each epoch took long; and SIGTERM is heard, as under the command line."""
    monkeypatch.setattr(checkpointer, "EPOCH_SECONDS", 0.0)
    monkeypatch.setattr(checkpointer, "SAVING_SHARE", 1e9)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def never_killed():
    """What runs without any checkpoint come to, by their settings; each is run once."""
    known = {}

    def end_of(**settings):
        key = repr(settings)
        if key not in known:
            known[key] = Run(None, **settings).run().end()
        return known[key]

    return end_of


def assert_same(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for name, value in one[1].items():
        np.testing.assert_array_equal(value, other[1][name], err_msg=name)


def test_the_schedule_has_what_makes_resuming_hard(never_killed):
    record, variables = never_killed()
    assert [p["stopped_by"] for p in record["phases"]] == ["epochs", "patience", "epochs"]
    top = record["phases"][1]
    assert top["best_epoch"] < 2 + top["epochs_run"] - 1  # the best weights are not the last
    assert any("seed" in each.path for each in Run(None).inventory.model.variables)


def kept_in(directory):
    """Returns the position of the last checkpoint, and the steps of the run until there."""
    position = at(Checkpoints(directory).latest(resume_point))
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
    assert at(checkpoint).phase == 1
    assert all(np.isfinite(each).all() for each in checkpoint.arrays["weights"].values())


def test_out_of_memory_names_phase_and_batch_size(tmp_path, monkeypatch):
    import tensorflow as tf

    def exhausted(self):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(PhaseRun, "run", exhausted)
    run = Run(tmp_path, phases=[PHASES[1]])
    with pytest.raises(
        TrainingError, match=r"dataset.batch_size must be.*phase top.*depth\(1\).*Received: 8.*OOM"
    ):
        run.run()


def test_the_last_two_and_the_best_are_kept(tmp_path):
    run = Run(tmp_path, phases=[PHASES[0], Phase("worse", 3, 3.0, ALL)]).run()
    losses = [r.loss for r in run.record.history if r.split == "validation"]
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 3
    best = json.loads((paths[0] / "checkpoint.json").read_text())
    assert best["score"] == -min(losses)
    assert best["state"]["position"]["epoch"] == int(np.argmin(losses)) + 1


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """The checkpoints of a run killed in its third epoch."""
    directory = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpointer, "EPOCH_SECONDS", 0.0)
        patch.setattr(checkpointer, "SAVING_SHARE", 1e9)
        with pytest.raises(Killed):
            Run(directory, kill_at(8)).run()
    assert len(list(directory.iterdir())) == 2
    return directory


@pytest.fixture
def killed(two_checkpoints, tmp_path):
    """A copy of them."""
    return shutil.copytree(two_checkpoints, tmp_path / "checkpoints")


FILES = ["checkpoint.json", "weights.safetensors", "optimizer.safetensors", "seeds.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_found_and_the_checkpoint_before_is_used(killed, name, caplog):
    _, newest = sorted(killed.iterdir())
    whole = (newest / name).read_bytes()
    for place in np.linspace(0, len(whole) - 1, 40).astype(int):
        content = bytearray(whole)
        content[place] ^= 0x10
        (newest / name).write_bytes(content)
        caplog.clear()
        found = Checkpoints(killed).latest(resume_point)
        if whole[place : place + 1].isspace() and at(found).epoch == 2:
            assert name == "checkpoint.json"  # a space between two values
        else:
            assert at(found).epoch == 1
            assert f"checkpoint {newest} is damaged" in caplog.text
            newest.with_name(f"{newest.name}.damaged").rename(newest)
    (newest / name).write_bytes(whole)
    assert at(Checkpoints(killed).latest(resume_point)).epoch == 2


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_or_gone_is_found(killed, name):
    newest = max(killed.iterdir())
    whole = (newest / name).read_bytes()
    for content in (b"", whole[:-1], whole + b"x"):
        (newest / name).write_bytes(content)
        assert at(Checkpoints(killed).latest(resume_point)).epoch == 1
        newest.with_name(f"{newest.name}.damaged").rename(newest)
    (newest / name).unlink()
    assert at(Checkpoints(killed).latest(resume_point)).epoch == 1


def test_only_what_has_moved_is_kept_where_the_rest_can_be_loaded(killed):
    shutil.rmtree(max(killed.iterdir()))  # what is left is from within the phase probe
    checkpoint = Checkpoints(killed).latest(resume_point)
    assert sorted(checkpoint.arrays["weights"]) == ["logits/bias", "logits/kernel"]
    with pytest.raises(FrozenWeightsError, match="phase probe must resume with the held weights"):
        Run(killed, seed=5).run()


def test_nothing_is_begun_anew_where_every_checkpoint_is_damaged(killed):
    for each in killed.iterdir():
        (each / "weights.safetensors").write_bytes(b"")
    with pytest.raises(
        ConfigError, match=r"must hold a whole checkpoint. Received: 2, none of them"
    ):
        Checkpoints(killed).latest(resume_point)
    with pytest.raises(ConfigError, match="must hold a whole checkpoint"):  # nor when asked again
        Checkpoints(killed).latest(resume_point)


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


def reseal(path, change):
    """Changes a checkpoint.json as someone would who knows its format."""
    manifest = json.loads(path.read_text())
    change(manifest)
    manifest.pop("sha256", None)
    path.write_text(json.dumps({**manifest, "sha256": digest_of(manifest)}))


def put(*keys, value=None):
    """Returns a change that sets a value, or removes it where there is none."""

    def change(manifest):
        *path, last = keys
        for key in path:
            manifest = manifest[key]
        if value is None:
            del manifest[last]
        else:
            manifest[last] = value

    return change


POSITION = ("state", "position")
HOSTILE = [
    put("files"), put("files", value=[]), put("files", value={"../../x.safetensors": "0" * 64}),
    put("files", value={"..": "0"}), put("state"), put("state", value=[]), put("state", "record"),
    put("state", "record", value=[]), put("state", "record", "config"), put("score", value="x"),
    put("state", "record", "phases", value=[]), put("state", "record", "phases", value=[3]),
    put("state", "record", "seconds", value={"total": "x"}), put("format", value=9),
    put(*POSITION), put(*POSITION, "phase", value=-1), put(*POSITION, "phase", value="x"),
    put(*POSITION, "phase", value=99), put(*POSITION, "epoch", value=-5),
    put(*POSITION, "step", value=10**6), put(*POSITION, "step", value=-1),
    put(*POSITION, "step", value=3), put(*POSITION, "unknown", value=1),
    put("state", "decisions", value={"x": {}}), put("state", "decisions", value=[]),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_checkpoint_that_no_run_wrote_is_one_that_is_damaged(killed, number):
    reseal(max(killed.iterdir()) / "checkpoint.json", HOSTILE[number])
    assert at(Checkpoints(killed).latest(resume_point)).epoch == 1  # the one before


@pytest.mark.parametrize(
    "change",
    [put("state", "phase"), put("state", "phase", "waited"), put("state", "phase", "num_steps"),
     put("state", "phase", "num_steps", value=-3), put(*POSITION, "inside", value=False)],
)  # fmt: skip
def test_nor_one_within_a_phase(killed, change):
    shutil.rmtree(max(killed.iterdir()))  # what is left is from within the phase probe
    reseal(max(killed.iterdir()) / "checkpoint.json", change)
    with pytest.raises(ConfigError, match="must hold a whole checkpoint"):
        Checkpoints(killed).latest(resume_point)


def test_a_checkpoint_of_an_earlier_version_is_refused_and_left_alone(killed):
    for path in killed.iterdir():
        reseal(path / "checkpoint.json", put("format", value=1))
    with pytest.raises(
        ConfigError, match=r"of format 2. Received: format 1, which an earlier version"
    ):
        Checkpoints(killed).latest(resume_point)
    assert sorted(path.name for path in killed.iterdir()) == ["000001", "000003"]


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{}", "[" * 200_000, "\0"])
def test_a_checkpoint_that_is_no_json_is_one_that_is_damaged(killed, text):
    (max(killed.iterdir()) / "checkpoint.json").write_text(text)
    assert at(Checkpoints(killed).latest(resume_point)).epoch == 1


def test_what_lies_among_checkpoints_is_left_alone(killed):
    for name in ("7", "٣", "notes", "000009.damaged"):
        (killed / name).mkdir()
    (killed / "000099").write_text("a file")
    assert at(Checkpoints(killed).latest(resume_point)).epoch == 2
    assert {"7", "٣", "notes"} <= {path.name for path in killed.iterdir()}


def test_what_has_begun_cannot_be_changed(killed):
    for phases in (
        [Phase("other", 2, 0.1, PROBE), *PHASES[1:]],
        [Phase("probe", 2, 0.1, ALL), *PHASES[1:]],
        [Phase("probe", 2, 0.1, PROBE, batch_norm="train"), *PHASES[1:]],
    ):
        with pytest.raises(ConfigError, match="must start with the phases that have started"):
            Run(killed, phases=phases).run()


def test_another_rate_is_written_down(tmp_path):
    with pytest.raises(Killed):
        Run(tmp_path, kill_at(5)).run()
    run = Run(tmp_path, phases=[Phase("probe", 3, 0.025, PROBE)]).run()
    assert run.record.phases[0].epochs_planned == 3
    rows = [row.learning_rate for row in run.record.history if row.split == "train"]
    assert rows == [0.1, 0.025, 0.025]
