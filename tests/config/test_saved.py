"""What a run saved is read back as it was, and nothing in it is evaluated."""

import pytest
import yaml
from hydra.core.utils import _save_config
from omegaconf import OmegaConf, open_dict

from finetune.config.compose import compose_config, config_dir
from finetune.config.read import read
from finetune.config.saved import SAVED, read_overrides, read_saved, save_resolved
from finetune.errors import ConfigError

EXPERIMENTS = sorted(path.stem for path in config_dir().glob("experiment/*.yaml"))


def save(directory, *overrides):
    """Saves a composed config as Hydra's run_job does; returns it without the hydra node."""
    composed = compose_config(overrides)
    with open_dict(composed):
        del composed["hydra"]
    _save_config(composed, SAVED.name, directory / SAVED.parent)
    return composed


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_read_back_as_it_was(tmp_path, experiment):
    composed = save(tmp_path, f"experiment={experiment}", "dataset.config='2020-01-01'")
    assert read_saved(tmp_path) == read(composed)


def test_there_are_experiments():
    assert "resnet_freeze" in EXPERIMENTS


def test_values_that_yaml_reads_otherwise_come_back_as_they_were(tmp_path):
    composed = save(
        tmp_path, "dataset=tfds", "dataset.name='1e3'", "dataset.config='on'", "seed=4294967295",
        "schedule.phases.head.learning_rate=1e-05", "schedule.phases.head.patience=3",
        "dataset.splits.train='train[:90%]'", "dataset.version='1.0'",
        "+schedule.phases.zwei={epochs: 1, learning_rate: 1, freeze: {policy: patterns, "
        "train: ['.*/ä[0-9]{2}\\$']}}",
    )  # fmt: skip
    saved = read_saved(tmp_path)
    assert saved == read(composed)
    assert list(saved.schedule.phases) == ["head", "zwei"]


def test_interpolations_are_saved_as_what_they_stood_for(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_TEST_DATA", "mnist")
    composed = save(
        tmp_path, "dataset=tfds", "dataset.name=${oc.env:FINETUNE_TEST_DATA}",
        "schedule.phases.head.epochs=${dataset.batch_size}",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"dataset\.name must be a value that needs no eval"):
        read_saved(tmp_path)
    save_resolved(composed, tmp_path)
    monkeypatch.setenv("FINETUNE_TEST_DATA", "changed")
    assert read_saved(tmp_path).dataset.name == "mnist"
    assert read_saved(tmp_path).schedule.phases["head"].epochs == 32


def test_a_directory_of_no_run(tmp_path):
    with pytest.raises(ConfigError, match=r"^RUN_DIR must be the directory of a run"):
        read_saved(tmp_path)
    with pytest.raises(ConfigError, match=r"^RUN_DIR must be the directory of a run"):
        read_saved(tmp_path / "none")


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
HOSTILE = {
    "interpolated value": ("seed: ${oc.env:HOME}", "seed must be a value that needs no"),
    "interpolated key": ("${oc.env:HOME}: 1", "a key in the config must be a value"),
    "interpolation deep down": (
        "schedule: {phases: {head: {freeze: {train: ['${now:%Y}']}}}}",
        r"schedule\.phases\.head\.freeze\.train\[0\]",
    ),
    "target": ("head: {_target_: os.system}", "no key that chooses what runs. Received: _target_"),
    "target in a list": ("x: [{y: {_target_: os.system}}]", "Received: _target_ in line 1"),
    "partial": ("_partial_: true", "Received: _partial_"),
    "python tag": ("seed: !!python/object/apply:os.system [touch x]", "no YAML tags"),
    "path tag": ("seed: !!python/object/apply:pathlib.Path [x]", "no YAML tags"),
    "own tag": ("seed: !x 1", "no YAML tags. Received: !x in line 1"),
    "binary tag": ("seed: !!binary aGVsbG8=", "no YAML tags"),
    "alias": ("seed: &a 1\nhead: *a", r"no YAML aliases. Received: \*a in line 2"),
    "billion laughs": (BOMB, "no YAML aliases"),
    "unknown key": ("sead: 1", "Did you mean seed?"),
    "unknown key deep down": ("head: {poolin: avg}", "Did you mean pooling?"),
    "hydra": ("hydra: {callbacks: {}}", "hydra must be left out"),
    "wrong type": ("seed: [1]", "seed must"),
    "wrong shape": ("dataset: 3", "dataset must be a mapping"),
    "phases as a list": ("schedule: {phases: [1]}", "schedule.phases must be"),
    "phases as text": ("schedule: {phases: x}", "schedule.phases must be"),
    "a phase as text": ("schedule: {phases: {head: x}}", "schedule.phases.head must be a mapping"),
    "no schedule": ("schedule: null", "schedule must be a mapping"),
    "empty": ("", "must hold the config of a run"),
    "a list": ("- seed", "must hold the config of a run, a mapping. Received: list"),
    "two documents": ("seed: 1\n---\nseed: 2", "must hold YAML"),
    "duplicate key": ("seed: 1\nseed: 2", "each key once. Received: seed 2 times"),
    "number as key": ("1: 2", "keys that are text"),
    "null as key": ("? null\n: 2", "keys that are text"),
    "mapping as key": ("? {a: 1}\n: 2", "keys that are text.*Received: a mapping"),
    "null byte": ("seed: \0", "must hold YAML"),
    "not utf-8": (b"seed: \xff\xfe", "must hold UTF-8 text"),
    "not yaml": ("seed: [", "must hold YAML"),
    "deep list": ("seed: " + "[" * 100_000, "at most 40 levels"),
    "deep mapping": ("{a: " * 3000, "at most 40 levels"),
    "huge integer": (f"seed: {'9' * 100_000}", "at most 400 digits"),
    "large integer": (f"seed: {'9' * 60}", "seed must be 0..4294967295"),
    "infinite": ("optimizer: {epsilon: .inf}", "must be a finite number"),
    "nan": ("optimizer: {epsilon: .nan}", "must be a finite number"),
    "overflow": ("optimizer: {epsilon: 1.0e+400}", "must be a finite number"),
    "many values": ("seed: [" + "1," * 120_000 + "1]", "at most 50000 values"),
    "large file": ("#" * (1 << 21), "at most 1 MiB"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_their_path(tmp_path, name):
    text, match = HOSTILE[name]
    file = tmp_path / SAVED
    file.parent.mkdir()
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=match) as caught:
        read_saved(tmp_path)
    assert all(str(file) in problem for problem in caught.value.problems)


def test_a_valid_file_changed_in_one_place_is_refused(tmp_path):
    save(tmp_path)
    content = yaml.safe_load((tmp_path / SAVED).read_text())
    assert read_saved(tmp_path).seed == 0
    content["schedule"]["phases"]["head"]["epoch"] = 3
    (tmp_path / SAVED).write_text(OmegaConf.to_yaml(content))
    with pytest.raises(ConfigError, match="Did you mean epochs?"):
        read_saved(tmp_path)


def test_what_was_typed_is_read_as_data(tmp_path):
    assert read_overrides(tmp_path) == []
    (tmp_path / ".hydra").mkdir()
    file = tmp_path / ".hydra/overrides.yaml"
    file.write_text("")
    assert read_overrides(tmp_path) == []
    file.write_text("- experiment=resnet_freeze\n- seed=1\n")
    assert read_overrides(tmp_path) == ["experiment=resnet_freeze", "seed=1"]
    for wrong in ("a: 1", "- [1]", "!!python/object:os.system {}"):
        file.write_text(wrong)
        with pytest.raises(ConfigError, match="overrides"):
            read_overrides(tmp_path)
