"""A home directory in a path of the config, which a shell does not expand behind KEY=."""

import pytest

from finetune.config.compose import compose_config
from finetune.config.read import read
from finetune.config.schema import PATHS
from finetune.errors import ConfigError


@pytest.mark.parametrize("key", [*PATHS, "trackers.mlflow_uri"])
def test_every_path_may_be_below_a_home_directory(key, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    choices = {"backbone.path": ["backbone=local"], "dataset.path": ["dataset=image_folder"]}
    more = choices.get(key, [])
    config = read(compose_config([*more, f"{key}=~/data"]))
    group, _, name = key.partition(".")
    assert getattr(getattr(config, group), name) == f"{tmp_path}/data"
    with pytest.raises(ConfigError, match=f"{key} must be below a home directory that exists"):
        compose_config([*more, f"{key}=~nobody-of-this-name/data"])
