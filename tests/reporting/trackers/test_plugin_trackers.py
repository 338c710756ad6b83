"""Trackers of plug-ins, by a key of the config."""

import pytest

import finetune
from finetune.config import entry_points
from finetune.config.schema import trackers_config
from finetune.errors import ConfigError
from finetune.reporting.trackers.choice import chosen, require_installed
from tests.helpers.plugins import installer
from tests.helpers.standing_in import Notes


@pytest.fixture(autouse=True)
def install(tmp_path, monkeypatch):
    yield installer(tmp_path, monkeypatch)
    entry_points.read.cache_clear()


def asking(name):
    settings = trackers_config()
    setattr(settings, name, True)
    return settings


def test_a_tracker_is_made_with_the_config_when_it_is_asked_for(tmp_path):
    given = []

    @finetune.tracker("notes")
    def notes(settings):
        given.append(settings)
        return Notes()

    assert list(chosen(trackers_config(), tmp_path)) == ["TensorBoard"]
    settings = asking("notes")
    trackers = chosen(settings, tmp_path)
    assert list(trackers) == ["TensorBoard", "notes"]
    assert isinstance(trackers["notes"], Notes)
    assert given == [settings]


def test_a_tracker_with_the_name_of_another_key_is_never_asked_for(tmp_path):
    @finetune.tracker("project")
    def project(settings):
        raise AssertionError("trackers.project is a text")

    assert list(chosen(trackers_config(), tmp_path)) == ["TensorBoard"]


def test_a_broken_tracker_is_refused_before_anything_is_spent(install):
    install("acme", "1.2", "[finetune.trackers]\nnotes = nothing_like_it:notes\n")
    require_installed(trackers_config())
    with pytest.raises(ConfigError, match=r"trackers\.notes .*can be imported.*acme 1\.2"):
        require_installed(asking("notes"))
