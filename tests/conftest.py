"""Fixtures that many rooms share, and which tests are fast."""

import gc
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["FINETUNE_LAUNCHER"] = "python -m finetune"  # in suggestions, however pytest was started


import pytest

from tests.helpers import durations
from tests.helpers.tiny_model import make_tiny

pytest_plugins = ["pytester"]


@pytest.fixture
def tiny():
    """The inventory of a fresh tiny model."""
    from finetune.freezing.inventory import take_inventory

    return take_inventory(*make_tiny(dropout=0.1))


@pytest.fixture(scope="session")
def preset(tmp_path_factory):
    """Directory of a random-weight ResNet preset with an image converter."""
    import keras
    import keras_hub

    from tests.helpers.backbones import make_resnet

    directory = tmp_path_factory.mktemp("presets") / "tiny"
    keras.utils.set_random_seed(3)
    make_resnet().save_to_preset(str(directory))
    converter = keras_hub.layers.ResNetImageConverter(image_size=(16, 16), scale=1 / 128)
    converter.save_to_preset(str(directory))
    return directory


@pytest.fixture(scope="module")
def browser():
    """A running Chromium; the module needs the marks `tests.helpers.browser.NEEDS_BROWSER`."""
    from tests.helpers.browser import running_browser

    with running_browser() as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def own_stores(tmp_path_factory):
    """Keeps the features of tests, and the runs they track, out of the user's stores."""
    os.environ["FINETUNE_FEATURES_DIR"] = str(tmp_path_factory.mktemp("features"))
    os.environ["TRACKIO_DIR"] = str(tmp_path_factory.mktemp("trackio"))


def pytest_addoption(parser):
    """Adds the option that measures the tests anew."""
    parser.addoption(
        "--update-durations",
        action="store_true",
        help="rewrite tests/durations.json, from which the fast tests follow, with what is measured",
    )


def pytest_configure(config):
    """Measures tests where that is asked for, and lets commands run in the process of the tests.

    absl keeps the stderr of its import, here pytest's, and closes it when Hydra sets logging up
    while another one is in place: then nothing more is shown, but «lost sys.stderr».
    """
    from absl import logging

    logging.get_absl_handler().python_handler.stream = sys.__stderr__
    if config.getoption("--update-durations"):
        config.pluginmanager.register(durations.Measured())
        if not hasattr(config, "workerinput"):
            config.pluginmanager.register(durations.Written())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Marks the fast tests; where processes share the work, the longest modules come first."""
    listed = durations.read()
    for item in items:
        if durations.is_fast(item, listed):
            item.add_marker("fast")
    if hasattr(config, "workerinput"):
        items[:] = durations.by_expense(items, listed)


def pytest_collection_finish():
    """Keeps imported objects out of garbage collections, which would look at all of them."""
    gc.collect()
    gc.freeze()
