"""Texts arrive as they are typed: from the command line, from files, in sweeps, and when saved."""

import operator
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf, open_dict

from finetune.cli import main
from finetune.config.compose import compose_config, run_directory
from finetune.config.overrides import jobs, keep_text, literal, normalise
from finetune.config.read import read
from finetune.config.saved import read_saved, save_resolved
from finetune.config.schema import Config
from finetune.errors import ConfigError
from finetune.launcher import typed

WORDS = [
    *("1e3", "true", "False", "2024_01", "1_000", ".5", "1.", "-0", "0x10", "0o17", "010", "1:30", "yes"),
    *("on", "2024-01-02", "nan", "inf", "=", "a=b", "é", "a b", "x (1)", "a;b", "~", "#1", "[a]", "{a}"),
    *("*x", "&x", "!x", "%x", "@x", "it's", 'a "b"', "a: b", "- a", " a ", "\t", "a\\", "NULLs"),
]  # fmt: skip
FREEZE = "schedule.phases.head.freeze"


def composed(*overrides):
    return read(compose_config(overrides))


KEYS = [
    *(f"dataset.{key}" for key in ("config", "version", "data_dir", "columns.input", "columns.label")),
    *(f"dataset.splits.{key}" for key in ("train", "validation", "test")),
    "backbone.name",
]  # fmt: skip


@pytest.mark.parametrize("start", range(0, len(WORDS), len(KEYS)))
def test_texts_of_the_command_line_arrive_as_they_are_typed(start, tmp_path):
    words = dict(zip(KEYS, WORDS[start:], strict=False))
    node = compose_config([f"{key}={word}" for key, word in words.items()])
    assert texts(read(node), words) == words
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").touch()
    with open_dict(node):
        del node["hydra"]
    save_resolved(node, tmp_path)
    kept = {key: word for key, word in words.items() if key != "dataset.data_dir"}
    assert texts(read_saved(tmp_path), kept) == kept
    other = dict(zip(KEYS[::-1], WORDS[start:], strict=False))
    again = read_saved(tmp_path, [f"{key}={word}" for key, word in other.items()])
    assert texts(again, other) == other


def texts(config, keys):
    return {key: operator.attrgetter(key)(config) for key in keys}


@pytest.mark.parametrize("word", ["null", "NULL", "Null"])
def test_null_is_nothing_where_nothing_may_be_and_text_elsewhere(word):
    assert composed(f"dataset.config={word}").dataset.config is None
    assert composed(f"dataset.splits.test={word}").dataset.splits.test == word
    freeze = composed(f"{FREEZE}={{policy: stages, unfreeze_depth: null, stages: [{word}, 1e3]}}")
    assert freeze.schedule.phases["head"].freeze["stages"] == [word, "1e3"]


def test_texts_in_lists_mappings_and_phases():
    config = composed(
        "schedule=custom",
        "+schedule.phases.a={epochs: 3, learning_rate: 1e-3, freeze: {policy: patterns, train: [1e3, .5]}}",
        "dataset.columns={input: 1e3, label: null}",
    )
    phase = config.schedule.phases["a"]
    assert (phase.epochs, phase.learning_rate, phase.freeze["train"]) == (3, 1e-3, ["1e3", ".5"])
    assert (config.dataset.columns.input, config.dataset.columns.label) == ("1e3", None)


def test_numbers_stay_numbers():
    config = composed("seed=1_000", "head.dropout=.5", "dataset.flip=off", "optimizer.epsilon=1e-3")
    assert (config.seed, config.head.dropout, config.optimizer.epsilon) == (1000, 0.5, 1e-3)
    assert config.dataset.flip is False


def test_a_sweep_over_texts():
    given = ["dataset.version=1e3,2024_01", "dataset.config=choice(.5)", "trackers.group=a (1)"]
    assert [[text.partition("=")[2] for text in job] for job in jobs(given)] == [
        ['"1e3"', '".5"', '"a (1)"'],
        ['"2024_01"', '".5"', '"a (1)"'],
    ]  # fmt: skip


def test_texts_of_a_file_arrive_as_they_are_typed(tmp_path):
    plain = [word for word in WORDS if word == word.strip() and word[0] not in "~#[{*&!%@-=\"'"]
    plain = [word for word in plain if ": " not in word]  # YAML wants quotes for the others
    assert len(plain) >= 20
    pairs = [plain[index : index + 4] for index in range(0, len(plain), 4)]
    for folder in ("dataset", "experiment"):
        (tmp_path / folder).mkdir()
    for first, second, third, fourth in (pair for pair in pairs if len(pair) == 4):
        content = f"defaults: [digits]\nconfig: {first}\ncolumns: {{label: {second}}}\n"
        (tmp_path / "dataset" / "mine.yaml").write_text(content, encoding="utf-8")
        content = (
            f"# @package _global_\ntrackers: {{group: {third}}}\nschedule:\n  phases:\n    head:\n"
            f"      freeze: {{policy: stages, unfreeze_depth: null, stages: [{fourth}]}}\n"
        )
        (tmp_path / "experiment" / "mine.yaml").write_text(content, encoding="utf-8")
        config = read(compose_config(["dataset=mine", "experiment=mine"], tmp_path))
        found = (config.dataset.config, config.dataset.columns.label, config.trackers.group)
        assert found == (first, second, third)
        assert config.schedule.phases["head"].freeze["stages"] == [fourth]


def test_the_name_of_a_config_is_text_too(tmp_path):
    (tmp_path / "dataset").mkdir()
    for name in ("2024_01", "1e3"):
        text = f"defaults: [digits]\nversion: {name}\n"
        (tmp_path / "dataset" / f"{name}.yaml").write_text(text, encoding="utf-8")
        config = read(compose_config([f"dataset={name}"], tmp_path))
        assert config.dataset.version == name


def test_what_a_file_sweeps_is_text_too(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nhydra: {sweeper: {params: {head.pooling: '1e3,.5', seed: 1}}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text, encoding="utf-8")
    assert main(["-m", "experiment=mine", "--config-dir", str(tmp_path), "-q"]) == 2
    assert "head.pooling must be a pooling. Received: 1e3." in capsys.readouterr().err


def test_a_saved_config_edited_by_hand_keeps_its_texts(tmp_path):
    (tmp_path / ".hydra").mkdir()
    text = OmegaConf.to_yaml(OmegaConf.structured(Config)).replace(
        "version: null", "version: 2024_01"
    ).replace("name: ???", "name: 1e3", 1)  # fmt: skip
    (tmp_path / ".hydra" / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        read_saved(tmp_path)  # no phases
    config = read_saved(tmp_path, ["schedule.phases={a: {epochs: 1, learning_rate: 1, freeze: {policy: all}}}",
                                   "backbone.preset=x"])  # fmt: skip
    assert (config.dataset.version, config.dataset.name) == ("2024_01", "1e3")


def test_quotes_and_interpolations_keep_their_meaning():
    assert keep_text("dataset.config='1e3'") == "dataset.config='1e3'"
    assert composed("dataset.config=${dataset.name}").dataset.config == "digits"
    node = compose_config([f"hydra.run.dir={literal('${a} b')}"])
    assert run_directory(node) == Path("${a} b")
    assert normalise(["experiment=null", "~seed", "novalue"]) == [
        "experiment=null",
        "~seed",
        "novalue",
    ]


@pytest.mark.parametrize(
    ("arguments", "swept"),
    [
        (["check", "dataset.columns={input: a (b), label: it's}", "seed=1"], False),
        ([f"{FREEZE}={{policy: patterns, train: [.*(kernel|bias), 1e3]}}"], False),
        (["-m", "dataset.path=/a (1),/b", "seed=0,1"], True),
    ],
)
def test_a_refused_value_comes_with_the_line_that_works(arguments, swept):
    from finetune.config.overrides import unparsed

    overrides = [word for word in arguments if "=" in word]
    with typed(arguments):
        (problem,) = unparsed(overrides, swept)
    line = problem.partition("Quote the value, as in: ")[2]
    program, *words = shlex.split(line.removeprefix("python -m "))
    assert (program, len(words)) == ("finetune", len(arguments))
    corrected = [word for word in words if "=" in word]
    assert unparsed(corrected, swept) == []
    changed = [text for text in corrected if text not in overrides]
    assert len(changed) == 1


@pytest.mark.parametrize(
    ("override", "other"),
    [
        ("seed=1,2", None),
        ("dataset.path=a,b", 'dataset.path="a,b"'),
        ("schedule.phases.head.freeze.stages=a,b", "schedule.phases.head.freeze.stages=[a,b]"),
    ],
)
@pytest.mark.parametrize("verb", ["train", "check"])
def test_several_values_without_a_sweep_show_both_lines(override, other, verb):
    with typed([verb, override]), pytest.raises(ConfigError) as caught:
        compose_config([override])
    (problem,) = caught.value.problems
    assert "must have one value in one run" in problem
    if verb == "train":
        assert f"python -m finetune train {override} -m" in problem
    else:  # which has no -m
        assert (
            "Only train can run once with every value, with -m" in problem
            and f"{override} -m" not in problem
        )
    if other is not None:
        assert problem.endswith(f"python -m finetune {verb} {shlex.quote(other)}")
