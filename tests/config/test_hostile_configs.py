"""Config files and overrides of others are data: refused with exit code 2, and nothing runs."""

import pytest

from finetune.cli import main
from finetune.config.compose import compose_config
from finetune.config.read import read

GLOBAL = "# @package _global_\n"
CALL = "{_target_: os.mkdir, path: MARK}"
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
FILES = {
    "callback": (f"hydra: {{callbacks: {{x: {CALL}}}}}", "Received: _target_"),
    "callback by alias": (f"seed: &t {CALL}\nhydra: {{callbacks: {{x: *t}}}}", "_target_"),
    "callback by resolver": (
        "hydra: {callbacks: {x: '${oc.create:\"{_target_: os.mkdir, path: MARK}\"}'}}",
        "must use no resolver but",
    ),
    "callback by nested resolver": (
        "hydra: {run: {dir: '${oc.${x}:\"{_target_: os.mkdir}\"}'}}", "must use no resolver but",
    ),
    "launcher": ("hydra: {launcher: {_target_: os.mkdir}}", "Received: _target_"),
    "partial": ("seed: {_partial_: true}", "Received: _partial_"),
    "logging factory": (
        "hydra: {job_logging: {handlers: {x: {'()': os.mkdir, path: MARK}}}}", "Received: ()",
    ),
    "logging class": (
        "hydra: {job_logging: {handlers: {x: {class: subprocess.Popen, args: [touch, MARK]}}}}",
        "nothing of Hydra but run, sweep and sweeper.params. Received: hydra.job_logging",
    ),
    "environment": ("hydra: {job: {env_set: {LD_PRELOAD: x}}}", "Received: hydra.job"),
    "search path": ("hydra: {searchpath: ['pkg://os']}", "Received: hydra.searchpath"),
    "sweeper": (
        "hydra: {sweeper: {params: {+hydra.callbacks.x: '{}'}}}", "Received: hydra.sweeper.params",
    ),
    "python object": ("seed: !!python/object/apply:os.mkdir [MARK]", "no YAML tags"),
    "python name": ("seed: !!python/name:os.system", "no YAML tags"),
    "path": ("seed: !!python/object/apply:pathlib.Path [x]", "no YAML tags"),
    "own tag": ("seed: !include /etc/passwd", "no YAML tags. Received: !include"),
    "billion laughs": (LAUGHS, "aliases that expand to more"),
    "alias of itself": ("seed: &a [*a]", "an alias of what it is in"),
    "deep": ("seed: " + "[" * 5000, "at most 40 levels"),
    "deep mappings": ("seed: " + "{a: " * 5000, "at most 40 levels"),
    "number as key": ("schedule: {phases: {1: {epochs: 1}}}", "keys that are text"),
    "boolean as key": ("on: 1", "keys that are text"),
    "null as key": ("~: 1", "keys that are text"),
    "list as key": ("? [a]\n: 1", "keys that are text"),
    "null byte": ("seed: \0", "must hold YAML"),
    "not utf-8": (b"seed: '\xff'", "must hold UTF-8"),
    "duplicate key": ("seed: 1\nseed: 2", "each key once"),
    "duplicate key deep down": ("head: {pooling: avg, pooling: max}", "each key once"),
    "infinite": ("optimizer: {epsilon: .inf}", "must be a finite number"),
    "nan": ("optimizer: {epsilon: .nan}", "must be a finite number"),
    "overflow": ("optimizer: {epsilon: 1e400}", "must be a finite number"),
    "large number": ("dataset: {batch_size: 99999999999999999999}", "at most 4294967295"),
    "larger number": (f"optimizer: {{epsilon: {'9' * 399}}}", "optimizer.epsilon|too large"),
    "huge number": (f"seed: {'9' * 5000}", "at most 400 digits"),
    "unknown key": ("sead: 1", "sead"),
    "a list": ("- seed", "must hold a mapping. Received: list"),
    "text": ("seed", "must hold a mapping. Received: str"),
    "large": ("#" * (1 << 21), "at most 1 MiB"),
    "cycle of defaults": ("defaults: [evil]", "cannot be applied|RecursionError|evil"),
    "defaults elsewhere": (
        "defaults: [/backbone@hydra.callbacks: local]", "place its defaults in a package",
    ),
    "interpolation of itself": ("seed: ${seed}", "Recursive interpolation"),
    "interpolation of nothing": ("seed: ${nope}", "not found"),
}  # fmt: skip


def run(tmp_path, monkeypatch, capsys, *arguments):
    """Returns what stderr says of a command that must be refused; proves that nothing ran."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(
        "finetune.commands.training.import_runs", lambda: pytest.fail("it was not refused")
    )
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    assert list(work.iterdir()) == []
    return error


@pytest.fixture
def configs(tmp_path):
    def write(name, content):
        file = tmp_path / "configs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / "configs"

    return write


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused(tmp_path, configs, monkeypatch, capsys, name):
    content, match = FILES[name]
    header = GLOBAL.encode() if isinstance(content, bytes) else GLOBAL
    where = configs("experiment/evil.yaml", header + content)
    error = run(
        tmp_path, monkeypatch, capsys, f"--config-dir={where}", "experiment=evil", "hydra.run.dir=o"
    )
    assert any(part in error for part in match.split("|")), error


@pytest.mark.parametrize(
    ("file", "content", "override", "match"),
    [
        ("hydra/job_logging/evil.yaml", "version: 1", "hydra/job_logging=evil", "in a group of"),
        ("backbone/evil.yaml", "# @package hydra.callbacks\nx: {}", "backbone=evil", "a package"),
        ("backbone/hydra.yaml", "# @package _name_\nx: {}", "backbone=hydra", "a package"),
        ("other/evil.yaml", f"x: {CALL}", "+other=evil", "Received: _target_"),
    ],
)
def test_a_hostile_place_is_refused(
    tmp_path, configs, monkeypatch, capsys, file, content, override, match
):
    where = configs(file, content)
    assert match in run(tmp_path, monkeypatch, capsys, f"--config-dir={where}", override)


def test_a_sweep_refuses_them_too(tmp_path, configs, monkeypatch, capsys):
    where = configs("experiment/evil.yaml", f"{GLOBAL}hydra: {{callbacks: {{x: {CALL}}}}}")
    error = run(tmp_path, monkeypatch, capsys, "-m", f"--config-dir={where}", "experiment=evil")
    assert "Received: _target_" in error


def test_a_file_outside_of_every_directory_of_configs_is_no_way_around(
    tmp_path, configs, monkeypatch, capsys
):
    where = configs("evil.yaml", f"{GLOBAL}hydra: {{callbacks: {{x: {CALL}}}}}")
    up = "../" * 20 + str(where).lstrip("/")
    assert "_target_" in run(tmp_path, monkeypatch, capsys, f"experiment='{up}/evil'")


def test_what_people_write_is_still_read(configs, monkeypatch):
    monkeypatch.setenv("FINETUNE_TEST_SIZE", "7")
    where = configs(
        "experiment/mine.yaml",
        f"{GLOBAL}defaults:\n  - override /schedule: progressive\n"
        "dataset: &d {batch_size: '${oc.env:FINETUNE_TEST_SIZE}'}\n"
        "schedule: {phases: {head: {epochs: '${dataset.batch_size}'}}}\n"
        "hydra: {run: {dir: 'x/${now:%Y}'}, sweeper: {params: {seed: '1,2'}}}\n",
    )
    config = read(compose_config(["experiment=mine"], where))
    assert (config.dataset.batch_size, config.schedule.phases["head"].epochs) == (7, 7)


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("+hydra.callbacks.x={_target_: os.mkdir, path: MARK}", "_target_ must be left out"),
        ("hydra.launcher._target_=os.mkdir", "_target_ must be left out"),
        ("+hydra.callbacks={x: '${oc.create:y}'}", "hydra.callbacks must be left out"),
        ("+seed._partial_=true", "_partial_ must be left out"),
        ("seed=" + "[" * 3000, "Arguments must be KEY=VALUE"),
        ("seed=" + "[" * 300 + "]" * 300, "seed"),
        ("seed=" + "9" * 5000, "seed"),
        ("seed=" + "9" * 400, "seed must be 0..4294967295"),
        ("optimizer.epsilon=" + "9" * 400, "optimizer.epsilon"),
        ("head.dropout=1e400", "head.dropout must be in [0, 1). Received: inf."),
        ("seed=\0", "'\\x00' is not allowed here without quotes"),
        ("seed=\udcff", "Received: seed=\\udcff ('\\udcff' is not allowed here without quotes"),
        ("\udcff=1", "is not allowed here without quotes"),
        ("seed=1;2", "Received: seed=1;2 (';' is not allowed here without quotes)"),
        ("schedule.phases.head.freeze.policy=a;b", "must be a freeze policy. Received: a;b."),
        ("~schedule.phases", "schedule.phases must not be deleted; only phases can be left out"),
        ("schedule=null", "schedule=null cannot be applied"),
        ("hydra=3", "hydra=3 cannot be applied"),
        ("=1", "=1 cannot be applied"),
        ("seed=${oc.env:}", "seed must have the right type"),
        ("experiment=../../etc/passwd", "experiment/../../etc must be"),
    ],
)
def test_a_hostile_override_is_refused(tmp_path, monkeypatch, capsys, override, match):
    assert match in run(tmp_path, monkeypatch, capsys, override)
