"""Configs of packages on Hydra's search path, keys of trackers, and what a config uses."""

import pytest

from finetune.config import entry_points
from finetune.config.compose import compose_config
from finetune.config.plugin_configs import folders
from finetune.config.read import read
from finetune.config.used_plugins import require_still_there, used
from finetune.errors import ConfigError
from tests.helpers.plugins import installer

MOONS = "[finetune.datasets]\nmoons = acme_g:moons\n[finetune.configs]\nacme = acme.configs\n"


@pytest.fixture(autouse=True)
def install(tmp_path, monkeypatch):
    yield installer(tmp_path, monkeypatch)
    entry_points.read.cache_clear()


def write(folder, package, group, name, text):
    place = folder / package / "configs" / group
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.yaml").write_text(text)


def test_an_experiment_of_a_package_is_composed_without_importing_it(install, tmp_path):
    install("acme", "1.2", MOONS)
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "__init__.py").write_text("raise ImportError('imported')")
    text = "# @package _global_\ndefaults: [override /dataset: moons]\nseed: 7\nmetrics: [auroc]\n"
    write(tmp_path, "acme", "experiment", "mine", text)
    config = read(compose_config(["experiment=mine", "dataset.path=here"]))
    assert (config.seed, config.dataset.name, config.dataset.path) == (7, "moons", "here")
    assert config.metrics == ["auroc"]
    assert used(config) == {"datasets.moons": "acme 1.2"}


def test_a_config_of_two_packages_is_refused_when_it_is_used(install, tmp_path):
    install("acme", "1.2", "[finetune.configs]\nacme = acme.configs\n")
    install("bolt", "3", "[finetune.configs]\nbolt = bolt.configs\n")
    for package in ("acme", "bolt"):
        write(tmp_path, package, "schedule", "mine", "phases: {}\n")
        write(tmp_path, package, "optimizer", "adamw", "name: sgd\n")
    said = "schedule must be a config that one package offers. Received: mine, which .* both offer"
    with pytest.raises(ConfigError, match=said):
        compose_config(["optimizer=adam", "schedule=mine"])
    with pytest.raises(ConfigError, match="Received: adamw, which finetune and "):
        compose_config([])
    assert read(compose_config(["optimizer=adam"])).optimizer.name == "adam"


def test_configs_of_a_package_are_only_data(install, tmp_path):
    install("acme", "1.2", "[finetune.configs]\nacme = acme.configs\n")
    write(tmp_path, "acme", "experiment", "mine", "# @package _global_\n_target_: os.system\n")
    with pytest.raises(ConfigError, match="_target_"):
        compose_config(["experiment=mine"])


def test_a_file_may_add_keys_to_an_entry_of_the_same_name(install, tmp_path):
    install("acme", "1.2", MOONS)
    write(tmp_path, "acme", "dataset", "moons", "name: moons\nbatch_size: 7\n")
    config = read(compose_config(["dataset=moons"]))  # a warning would be an error here
    assert (config.dataset.name, config.dataset.batch_size) == ("moons", 7)


def test_a_folder_that_is_not_there_is_named_where_a_config_is_not_found(install):
    install("acme", "1.2", "[finetune.configs]\nacme = acme_h.configs\n")
    said = "The configs of acme 1.2 cannot be read: there is no folder acme_h/configs."
    assert folders() == ({}, [said])
    assert read(compose_config([])).seed == 0
    with pytest.raises(ConfigError, match=said):
        compose_config(["experiment=mine"])


def test_a_tracker_of_a_plug_in_has_a_key(install):
    install(
        "acme", "1.2", "[finetune.trackers]\nnotes = builtins:print\nproject = builtins:print\n"
    )
    config = read(compose_config(["trackers.notes=true"]))
    assert config.trackers.notes is True
    assert config.trackers.project == "finetune"
    assert used(config) == {"trackers.notes": "acme 1.2"}
    assert read(compose_config([])).trackers.notes is False
    with pytest.raises(ConfigError, match=r"trackers\.note .*Did you mean notes\?"):
        compose_config(["trackers.note=true"])


def test_unknown_metrics_are_refused_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"metrics must be a metric\. Received: aurok\..*mean auroc\?"
    ):
        compose_config(["metrics=[auroc,aurok]"])


def test_plug_ins_that_are_gone_are_named_once_for_each_package(install, tmp_path):
    install("acme", "1.2", "[finetune.metrics]\ngap = acme:gap\n")
    require_still_there(tmp_path, {"metrics.gap": "acme 1.1"})
    gone = {"datasets.moons": "bolt 3", "metrics.far": "bolt 3", "policies.wide": "__main__"}
    with pytest.raises(ConfigError) as raised:
        require_still_there(tmp_path, gone)
    assert raised.value.problems == (
        f"{tmp_path} must be used with the plug-ins of its run. Received: no moons of datasets, far "
        "of metrics, from bolt 3. Install it: pip install bolt==3.",
        f"{tmp_path} must be used with the plug-ins of its run. Received: no wide of policies, from "
        "__main__. Run the code that registers them in the same process, or make a package of it.",
    )
