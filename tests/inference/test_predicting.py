"""Predictions equal those of the run's own evaluation, in order and for a stream of any length."""

import io

import numpy as np
import pytest
from PIL import Image

from finetune.datasets.assemble import object_array
from finetune.datasets.dataset import Split
from finetune.datasets.images.cleaning import clean_images
from finetune.datasets.pipeline import Examples, single_pass
from finetune.datasets.readers import ImageReader, TextReader
from finetune.inference.examples import Example, Failure, Prediction, examples_of
from finetune.inference.predicting import Predictor, forward
from finetune.inference.trained import load_trained
from tests.helpers.odd_images import ODD
from tests.helpers.trained_runs import image_run, own_run, softmax, text_run


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A trained image model, the task model that was saved, and its converter."""
    directory = tmp_path_factory.mktemp("images")
    task, converter = image_run(directory)
    return load_trained(directory), task, converter


def flat(batches):
    return [answer for batch in batches for answer in batch]


def encoded(seed, kind="PNG", size=(20, 20), **more):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype="uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **more)
    return file.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(orientation, "JPEG", (18, 30), exif=exif)


def test_files_are_decoded_as_in_training(images, tmp_path):
    trained, task, converter = images
    contents = {name: data for name, (data, _) in ODD.items()} | {
        f"plain{seed}.png": encoded(seed, size=(10 + seed, 30)) for seed in range(5)
    }
    contents |= {f"turned{way}.jpg": turned(way) for way in range(1, 9)}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    names = sorted(contents)
    split = Split(
        "test", object_array([contents[name] for name in names]), np.zeros(len(names), int)
    )
    split, bad = clean_images(split, {}, check=False, budget=2**30, name="odd")
    assert not bad
    examples = Examples(split, ImageReader((16, 16), converter), split.labels)
    expected = softmax(task.predict(single_pass(examples, batch_size=4, view=None), verbose=0))
    found = flat(Predictor(trained, 7)(examples_of("image", [str(tmp_path)], io.BytesIO())))
    assert [answer.source for answer in found] == [str(tmp_path / name) for name in names]
    np.testing.assert_allclose(
        np.stack([answer.probabilities for answer in found]), expected, rtol=1e-5, atol=1e-7
    )
    assert len(names) > 20


def test_texts_are_tokenized_as_in_training(tmp_path):
    task, preprocessor = text_run(tmp_path / "run")
    texts = ["the cat sat", "cats", "The CAFE.", "sat sat sat sat sat", "the"]
    split = Split("test", object_array(texts), np.zeros(5, int))
    examples = Examples(split, TextReader(preprocessor, {"test": split}), split.labels)
    expected = softmax(task.predict(single_pass(examples, batch_size=5, view=None), verbose=0))
    (tmp_path / "texts.txt").write_text(
        "\ufeffthe cat sat\ncats\n\nThe CAFE.\r\nsat sat sat sat sat\nthe"
    )
    trained = load_trained(tmp_path / "run")
    found = flat(
        Predictor(trained, 2)(examples_of("text", [str(tmp_path / "texts.txt")], io.BytesIO()))
    )
    assert [answer.source[len(str(tmp_path)) + 1 :] for answer in found] == [
        f"texts.txt:{n}" for n in (1, 2, 4, 5, 6)
    ]
    assert [answer.text for answer in found] == texts
    np.testing.assert_allclose(
        np.stack([answer.probabilities for answer in found]), expected, rtol=1e-5
    )


def test_rows_of_arrays(tmp_path):
    model, _, x = own_run(tmp_path / "run")
    np.save(tmp_path / "rows.npy", x[:5])
    np.save(tmp_path / "one.npy", x[7])
    np.save(tmp_path / "wrong.npy", x[:, :4])
    np.save(tmp_path / "objects.npy", np.asarray([{}, None]), allow_pickle=True)
    (tmp_path / "text.npy").write_text("1 2 3")
    names = [str(tmp_path / f"{name}.npy") for name in ("rows", "wrong", "one", "objects", "text")]
    found = flat(
        Predictor(load_trained(tmp_path / "run"), 4)(examples_of("array", names, io.BytesIO()))
    )
    good = [answer for answer in found if isinstance(answer, Prediction)]
    assert [answer.source for answer in good] == [
        *(f"{names[0]}:{row}" for row in range(1, 6)),
        names[2],
    ]
    expected = model.predict(np.concatenate([x[:5], x[7:8]]), verbose=0)
    np.testing.assert_allclose(
        np.stack([answer.probabilities for answer in good]), expected, rtol=1e-5
    )
    reasons = {answer.source: answer.reason for answer in found if isinstance(answer, Failure)}
    assert list(reasons) == [names[1], *names[3:]]
    assert "must be numbers of shape ('n', 6)" in reasons[names[1]]
    assert "Python objects" in reasons[names[3]]


def test_a_bad_file_does_not_stop_the_others(images, tmp_path):
    for seed in range(6):
        (tmp_path / f"{seed}.png").write_bytes(encoded(seed))
    (tmp_path / "1.png").write_bytes(encoded(1)[:200])
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "3.png").write_text("hello")
    (tmp_path / "4.png").unlink()
    names = [str(tmp_path / f"{seed}.png") for seed in range(6)]
    found = flat(Predictor(images[0], 2)(examples_of("image", names, io.BytesIO())))
    assert [answer.source for answer in found] == names
    assert [getattr(answer, "reason", None) for answer in found] == [
        None, "cut short or damaged", "empty", "not an image of a known format",
        "no such file, or a broken link", None,
    ]  # fmt: skip


def test_a_stream_is_read_ahead_by_a_bounded_number(images):
    trained, _, _ = images
    taken = 0

    def stream():
        nonlocal taken
        for taken in range(1, 10_001):
            yield Example(str(taken), np.zeros((4, 4, 3), "uint8"))

    answers = Predictor(trained, 8, ahead=5)(stream())
    for number in range(1, 4):
        assert len(next(answers)) == 8
        assert taken <= 8 * number + 5 + 1
    answers.close()  # drops the waiting images
    assert taken <= 30


def test_failures_alone_do_not_accumulate(images):
    def stream():
        yield Example("first", np.zeros((4, 4, 3), "uint8"))
        for number in range(1000):
            yield Failure(str(number), "gone")

    sizes = [len(batch) for batch in Predictor(images[0], 8)(stream())]
    assert sum(sizes) == 1001 and max(sizes) == 16


def test_all_batch_sizes_share_one_trace(images, monkeypatch):
    trained, _, _ = images
    cls, traces = type(trained.model), []
    call = cls.__call__

    def counted(self, *arguments, **more):
        traces.append(arguments)
        return call(self, *arguments, **more)

    monkeypatch.setattr(cls, "__call__", counted)
    examples = [Example(str(n), np.full((4 + n, 5, 3), n, "uint8")) for n in range(11)]
    assert len(flat(Predictor(trained, 4)(examples))) == 11
    assert len(traces) == 1


def test_forward_gives_float32(images):
    trained, task, _ = images
    batch = np.zeros((2, 16, 16, 3), "float32")
    outputs = forward(trained)(batch)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, task.predict(batch, verbose=0), rtol=1e-6)
