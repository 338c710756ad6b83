"""`finetune.load`: predictions and metrics of a trained model in Python."""

import numpy as np
import pytest
from PIL import Image

import finetune
from finetune.errors import ConfigError
from tests.helpers.trained_runs import image_run, own_run, softmax, text_run


def test_images_as_paths_and_as_arrays(tmp_path):
    task, converter = image_run(tmp_path / "run")
    run = finetune.load(tmp_path / "run")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (5, 20, 20, 3), dtype="uint8")
    expected = softmax(task.predict(np.asarray(converter(images)), verbose=0))
    for row, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{row}.png")
    paths = [tmp_path / f"{row}.png" for row in range(5)]
    assert run.classes == ("a", "b", "c")
    for given in (
        paths,
        list(map(str, paths)),
        images,
        list(images),
        [paths[0], *images[1:]],
        images.astype("float32"),
    ):
        np.testing.assert_allclose(run.predict(given, batch_size=2), expected, rtol=1e-4)
    grey = random.integers(0, 256, (20, 20), dtype="uint8")
    same = run.predict([grey, grey[..., None], np.repeat(grey[..., None], 3, axis=2)])
    assert np.allclose(same, same[0])
    assert run.predict([]).shape == (0, 3)


def test_unusable_images_are_named(tmp_path):
    image_run(tmp_path / "run")
    run = finetune.load(tmp_path / "run")
    (tmp_path / "x.png").write_text("hello")
    bad = r"2 that cannot be read: .*x.png \(not an image of a known format\), gone.png \(no such file"
    with pytest.raises(ConfigError, match=f"examples must be readable images. Received: {bad}"):
        run.predict([np.zeros((4, 4, 3)), tmp_path / "x.png", "gone.png"])
    with pytest.raises(ConfigError, match="examples must be a list of images. Received: str"):
        run.predict("x.png")
    with pytest.raises(ConfigError, match=r"must be paths or images.*\(4, 4, 4\) at index 0"):
        run.predict(np.zeros((1, 4, 4, 4)))
    with pytest.raises(
        ConfigError, match=r"images in 0..255. Received: values -1.0..0.0 at index 1"
    ):
        run.predict([np.zeros((4, 4, 3)), np.linspace(-1, 0, 48).reshape(4, 4, 3)])
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        run.predict([], batch_size=0)
    with pytest.raises(ConfigError, match="evaluate must be called on a run of FineTuner"):
        run.evaluate([], [])


def test_texts(tmp_path):
    task, preprocessor = text_run(tmp_path / "run", "avg")
    run = finetune.load(tmp_path / "run")
    texts = ["the cat", "sat", "cafe."]
    expected = softmax(task.predict(preprocessor(texts), verbose=0))
    np.testing.assert_allclose(run.predict(texts), expected, rtol=1e-5)
    for given, match in (
        (["a", ""], "without a text at index 1"),
        ([3], "without a text at index 0"),
        ("the cat", "a list of texts"),
    ):
        with pytest.raises(ConfigError, match=match):
            run.predict(given)


@pytest.mark.parametrize("last", ["softmax", "linear"])
def test_a_model_of_the_users_own(tmp_path, last):
    model, _, x = own_run(tmp_path / "run", last=last)
    run = finetune.load(tmp_path / "run")
    outputs = model.predict(x, verbose=0)
    expected = outputs if last == "softmax" else softmax(outputs)
    np.testing.assert_allclose(run.predict(x, batch_size=7), expected, rtol=1e-5)
    found = run.evaluate(x, np.arange(24) % 3)
    assert found["accuracy"] == np.mean(expected.argmax(1) == np.arange(24) % 3)
    named = run.evaluate(x, np.asarray(["a", "b", "c"] * 8))
    assert named == found
    with pytest.raises(ConfigError, match=r"examples must be numbers of shape \('n', 6\)"):
        run.predict(x[:, :3])
    assert run.evaluate(x, np.eye(3)[np.arange(24) % 3]) == found  # one-hot
    with pytest.raises(ConfigError, match="labels must be one class per example"):
        run.evaluate(x, np.ones((24, 3)))
