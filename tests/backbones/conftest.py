"""A two-stage ResNet preset of 16×16 images, saved once per session."""

import shutil
import sys

import pytest


def make_resnet(pre_activation=False, **arguments):
    import keras_hub

    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        use_pre_activation=pre_activation,
        **{"image_shape": (16, 16, 3), **arguments},
    )


@pytest.fixture(scope="session")
def preset(tmp_path_factory):
    """Directory of a random-weight ResNet preset with an image converter."""
    import keras
    import keras_hub

    directory = tmp_path_factory.mktemp("presets") / "tiny"
    keras.utils.set_random_seed(3)
    make_resnet().save_to_preset(str(directory))
    converter = keras_hub.layers.ResNetImageConverter(image_size=(16, 16), scale=1 / 128)
    converter.save_to_preset(str(directory))
    return directory


@pytest.fixture
def copy(preset, tmp_path):
    """A copy of the preset of a session, to be spoiled."""
    return shutil.copytree(preset, tmp_path / "preset")


@pytest.fixture
def nothing_runs(tmp_path, monkeypatch):
    """A test works in a directory of modules that leave a mark when they are imported."""
    work = tmp_path / "work"
    work.mkdir()
    for name in ("keras_nlp", "keras_cv", "evil"):
        (work / f"{name}.py").write_text("open('MARK', 'w').close()\n")
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(str(work))
    before = set(sys.modules)
    yield
    assert sorted(each.name for each in work.iterdir()) == [
        "evil.py",
        "keras_cv.py",
        "keras_nlp.py",
    ]
    assert not {"evil", "keras_cv", "keras_nlp"} & (set(sys.modules) - before)


def pytest_collection_modifyitems(items):
    """Saving in Keras 3.15 converts variables in a way that NumPy 2 warns about."""
    mark = pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    )
    for item in items:
        if "tests/backbones" in item.path.as_posix():
            item.add_marker(mark)
