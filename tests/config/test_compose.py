"""Every mistake in a config is named, all at once, with the valid choices."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.config.compose import compose_config, config_dir
from finetune.config.read import read
from finetune.config.schema import OPTIMIZERS
from finetune.errors import ConfigError, unknown_name

PHASE = "+schedule.phases.a={epochs: 3, learning_rate: 1, freeze: {policy: bias_only}}"


def problems(*overrides):
    with pytest.raises(ConfigError) as caught:
        compose_config(overrides)
    return caught.value.problems


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("experiment=resnet_freez", "Did you mean resnet_freeze?"),
        ("backbnoe=x", "Did you mean backbone?"),
        ("optimizer=adamz", "Valid: adam, adamw, lion, rmsprop, sgd. Did you mean adam?"),
        ("optimizer=AdamW", "Did you mean adamw?"),
        ("dataset.batchsize=3", "Did you mean batch_size?"),
        ("+dataset.batchsize=3", "Did you mean batch_size?"),
        ("seed=x", "seed must have the right type. Received: x. It is a whole number."),
        ("head.dropout=x", "head.dropout must have the right type. Received: x. It is a number."),
        ("trackers.mlflow=maybe", "must have the right type. Received: maybe. It is true or false."),
        ("dataset.max_samples=x", "Received: x. It is a whole number, or null."),
        ("head=3", "Received: 3. It is a mapping with the keys pooling, dropout, standardise."),
        ("head=[1]", "It is a mapping with the keys pooling, dropout, standardise."),
        ("schedule.phases.head.freeze.stages=x", "Received: x. It is a list, or null."),
        ("head={dropuot: 1}", "head.dropuot must be a key of the config. Received: dropuot. Valid: "
         "pooling, dropout, standardise. Did you mean dropout?"),
        ("dataset.columns={image: a}", "dataset.columns.image must be a key of the config."),
        ("schedule.phases.head={epochs: 1, lr: 2}", "Did you mean learning_rate?"),
        ("trackers.tags=[a]", "mlflow_uri, wandb_mode."),
        ("seed=null", "seed must have the right type."),
        ("seed=-1", "seed must be 0..4294967295. Received: -1."),
        ("learning_rate=1e-3", "Did you mean schedule.phases.head.learning_rate=1e-3?"),
        ("lr=1e-3", "Did you mean schedule.phases.head.learning_rate=1e-3?"),
        ("optimizer.learning_rate=1e-3", "Did you mean schedule.phases.head.learning_rate=1e-3?"),
        ("schedule.lr=1", "Did you mean learning_rate?"),
        ("epochs=3", "Did you mean schedule.phases.head.epochs=3?"),
        ("batch_size=8", "Did you mean dataset.batch_size=8?"),
        ("dropout=0.1", "Did you mean head.dropout=0.1?"),
        ("patience=3", "Did you mean schedule.phases.head.patience=3?"),
        ("train.unfreeze_depth=1", "Did you mean schedule.phases.head.freeze.unfreeze_depth=1?"),
        ("weight_decy=0", "Did you mean optimizer.weight_decay=0?"),
        ("novalue", "Arguments must be KEY=VALUE, +KEY=VALUE or ~KEY. Received: novalue (it has no =)"),
        ("head.dropout=1", "head.dropout must be in [0, 1). Received: 1"),
        ("backbone.path=here", "exactly one of preset and path"),
        ("backbone.preset=null", "Received: neither."),
        ("dataset=tfds", "dataset.name must be the name of a TFDS dataset. Received: nothing."),
        ("optimizer.momentum=0.9", "adamw has no such setting"),
        ("runtime.device=tpu", "Valid: auto, cpu, gpu"),
        ("runtime.checkpoint_minutes=-1", "runtime.checkpoint_minutes must be at least 0"),
        ("trackers.wandb_mode=on", "Valid: offline, online"),
        ("trackers.mlfow=true", "Did you mean mlflow?"),
        ("trackers.project=''", "trackers.project must be one line of 1 to 128 characters"),
        ("trackers.name='a\nb'", "trackers.name must be one line of 1 to 128 characters"),
        ("trackers.mlflow_uri=mlruns", "trackers.mlflow_uri must be a URI or an absolute path"),
        ("trackers.mlflow_uri=https://me:secret@host/x", "must hold no user and password"),
        ("schedule=custom", "schedule must have at least one phase"),
        ("~schedule.phases.head", "schedule must have at least one phase"),
        ("~schedule.phases.top", "schedule.phases.top must be a key of the config"),
        ("schedule.phases.top.epochs=3", "must be a phase of the schedule. Received: top."),
        ("schedule.phases.head.lr=3", "Valid: epochs, learning_rate"),
        ("schedule.phases.head=3", "must be a mapping"),
        ("schedule.phases.head.epochs=0", "must be a whole number of at least 1. Received: 0."),
        ("schedule.phases.head.epochs=1.5", "epochs must have the right type"),
        ("schedule.phases.head.learning_rate=nan", "must be a finite number above 0"),
        ("schedule.phases.head.learning_rate=-1e-3", "must be a finite number above 0"),
        ("schedule.phases.head.stage_lr_decay=1.1", "must be in (0, 1]"),
        ("schedule.phases.head.batch_norm=off", "must be a BatchNorm mode"),
        ("schedule.phases.head.freeze.policy=dept", "Did you mean depth?"),
        ("schedule.phases.head.freeze.unfreeze_depth=-1", "must be at least 0"),
        ("schedule.phases.head.freeze.unfreeze_depth=null", "unfreeze_depth must be set for policy depth"),
        ("schedule.phases.head.freeze.stages=[a]", "two rules would disagree"),
        ("schedule.phases.head.freeze={policy: patterns, unfreeze_depth: null, train: ['(']}",
         "must be a regular expression. Received: ("),
        ("schedule.phases.head.freeze={policy: patterns, unfreeze_depth: null, "
         "train: ['a{99999999999}']}", "must be a regular expression. Received: a{99999999999}"),
        ("schedule.phases.head.freeze={policy: patterns, unfreeze_depth: null, train: ['"
         + "(" * 9999 + "']}", "must be a regular expression. Received: (("),
        ("schedule.phases.head.freeze={policy: patterns, unfreeze_depth: null, train: [a], "
         "freeze: [a]}", "must not train and freeze the same pattern"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(override, message):
    assert message in "\n".join(problems(override))


def test_a_password_is_not_shown():
    found = "\n".join(problems("trackers.mlflow_uri=https://me:secret@host/x"))
    assert "secret" not in found
    for uri in ("https://host/a@b", "/tmp/mlruns", "databricks", "sqlite:////tmp/mlflow.db"):
        assert read(compose_config([f"trackers.mlflow_uri={uri}"])).trackers.mlflow_uri == uri


def test_a_key_that_several_phases_have_is_suggested_for_each():
    (problem,) = problems("experiment=resnet_freeze", "learning_rate=1e-3")
    phases = read(compose_config(["experiment=resnet_freeze"])).schedule.phases
    keys = [f"schedule.phases.{name}.learning_rate=1e-3" for name in phases]
    assert f"Did you mean {' or '.join([*keys, 'schedule.learning_rate=1e-3'])}?" in problem
    (problem,) = problems("schedule=progressive", "epochs=3")
    assert "schedule.epochs_per_phase=3" in problem


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_a_config(name):
    assert read(compose_config([f"optimizer={name}"])).optimizer.name == name


def test_a_range_that_shrinks_is_refused():
    found = problems("schedule=progressive", "schedule.from_depth=3", "schedule.to_depth=1")
    assert "at least schedule.from_depth (3). Received: 1." in found[0]


def test_several_mistakes_are_all_reported():
    found = "\n".join(
        problems("optimizer=foo", "dataset.batchsize=3", "seed=x", "schedule.phases.head.epochs=0")
    )
    for name in ("optimizer", "batch_size", "seed", "schedule.phases.head.epochs"):
        assert name in found
    both = problems("schedule.phases.head.epochs=1.5", "schedule.phases.head.patience=0")
    assert len(both) == 2


def test_overrides_reach_phases_by_name_also_keys_the_file_does_not_list():
    config = read(
        compose_config(
            ["schedule=progressive", "schedule.phases.head.patience=3",
             "schedule.phases.head.learning_rate=1"]
        )
    )  # fmt: skip
    head = config.schedule.phases["head"]
    assert (head.patience, head.learning_rate) == (3, 1.0)
    assert isinstance(head.learning_rate, float)
    dropped = read(compose_config(["schedule=progressive", "~schedule.phases.head"]))
    assert (dropped.schedule.phases, dropped.schedule.from_depth) == ({}, 1)
    added = read(compose_config(["schedule=custom", PHASE]))
    assert list(added.schedule.phases) == ["a"]


def test_falsy_values_are_values():
    assert read(compose_config(["seed=0", "optimizer.weight_decay=0"])).optimizer.weight_decay == 0


CONFIGS = [
    f"{path.parent.name}={path.stem}"
    for path in sorted(config_dir().glob("*/*.yaml"))
    if path.parent.name != "job_logging"
]


def test_there_are_configs_to_test():
    assert len(CONFIGS) >= 15
    assert {"experiment=resnet_freeze", "schedule=progressive"} <= set(CONFIGS)


@pytest.mark.parametrize("choice", CONFIGS)
def test_every_config_composes_and_passes_its_checks(choice):
    more = {
        "backbone=local": ["backbone.path=DIR"],
        "dataset=tfds": ["dataset.name=mnist"],
        "dataset=image_folder": ["dataset.path=DIR"],
        "dataset=table": ["dataset.path=DIR"],
        "dataset=arrays": ["dataset.path=FILE"],
        "schedule=custom": [PHASE],
    }
    assert read(compose_config([choice, *more.get(choice, [])])).dataset.batch_size >= 1


@pytest.mark.parametrize(
    "path", sorted(config_dir().glob("experiment/*.yaml")), ids=lambda p: p.stem
)
def test_every_experiment_opens_with_its_command_and_result(path):
    lines = path.read_text().splitlines()
    assert lines[:2] == ["# @package _global_", f"# python -m finetune experiment={path.stem}"]
    assert "result" in "\n".join(line for line in lines if line.startswith("#")).lower()


def test_long_lists_show_the_most_similar_names():
    message = unknown_name("x", "a thing", "item_77x", [f"item_{n}" for n in range(500)])
    assert "500 names, among them item_77," in message
    assert len(message) < 300


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(["epochs", "learning_rate", "patience", "stage_lr_decay", "monitor", "x"]),
    st.one_of(
        st.integers(-3, 3), st.floats(), st.text(st.characters(categories=["L", "N"]), max_size=5)
    ),
)
def test_any_phase_value_gives_a_config_or_a_config_error(key, value):
    try:
        read(compose_config([f"schedule.phases.head.{key}={value}"]))
    except ConfigError as error:
        assert error.problems
