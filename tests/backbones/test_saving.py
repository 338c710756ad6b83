"""What a run leaves in `model/` is read by KerasHub alone, as its own card says, and predicts the same."""

import json
import subprocess
import sys

import keras
import keras_hub
import numpy as np
import pytest
from huggingface_hub import ModelCard

from finetune.config.compose import compose_config
from finetune.config.read import read
from finetune.datasets.pipeline import evaluation_batches
from finetune.reporting.model_card import model_card
from finetune.runs.build import Workbench
from finetune.runs.describe import card_facts, describe

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "green", "blue", "sky", "sea", "sun"]
TEXTS = ["red sky", "Green sea sun", "blue", "sun of the sea"]


def text_preset(directory):
    backbone = keras_hub.models.BertBackbone(11, 2, 2, 16, 32, max_sequence_length=16)
    backbone.save_to_preset(str(directory))
    keras_hub.tokenizers.BertTokenizer(WORDS, lowercase=True).save_to_preset(str(directory))


def dino_preset(directory):
    backbone = keras_hub.models.DINOV2Backbone(8, 1, 8, 2, 16, image_shape=(16, 16, 3))
    backbone.save_to_preset(str(directory))
    converter = keras_hub.layers.DINOV2ImageConverter(image_size=(16, 16), scale=1 / 255)
    converter.save_to_preset(str(directory))


def table(directory):
    directory.mkdir()
    for name in ("train", "val", "test"):
        rows = [{"text": text, "label": f"l{i % 2}"} for i, text in enumerate(TEXTS)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (directory / f"{name}.jsonl").write_text(lines)


CASES = {
    "image": ("ImageClassifier", None, ()),
    "image with a head of ours": (None, dino_preset, ("dataset=digits",)),
    "text": ("TextClassifier", text_preset, ("dataset=table",)),
    "text with a head of ours": (None, text_preset, ("dataset=table", "head.pooling=avg")),
}


@pytest.mark.parametrize("name", CASES)
def test_it_predicts_the_same_without_this_package_as_its_card_says(name, tmp_path):
    task, preset, overrides = CASES[name]
    overrides = ["schedule=linear_probe", *overrides]
    if preset is None:
        overrides += ["dataset.max_samples=40"]
    else:
        preset(tmp_path / "preset")
        overrides += ["backbone=local", f"backbone.path={tmp_path}/preset"]
    if "dataset=table" in overrides:
        table(tmp_path / "data")
        overrides += [f"dataset.path={tmp_path}/data"]
    config = read(compose_config(overrides))
    run = Workbench().run(config)
    model = run.built.inventory.model
    for weight in model.weights[-2:]:  # of the head
        weight.assign(keras.random.normal(weight.shape, seed=3))
    facts = card_facts(run)
    assert facts.task == task
    run.built.save(tmp_path / "model", model_card(describe(run), facts))
    test = run.built.examples["test"]
    batches = evaluation_batches(test, batch_size=32).map(lambda inputs, _: inputs)
    logits = model.predict(batches, verbose=0)

    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert ModelCard(card).data.library_name == "keras-hub"
    code = card.split("```python\n")[1].split("\n```")[0]
    found = predict_alone(code, test.split.examples, tmp_path)
    np.testing.assert_allclose(found, keras.ops.softmax(logits), atol=1e-5)


def predict_alone(code, examples, folder):
    """Runs the code of a card on raw examples, in a process that cannot import this package."""
    if isinstance(examples[0], bytes):
        from finetune.datasets.images.decoding import decoded

        # As Keras reads files; a converter called by itself rounds what it resizes of integers.
        examples = np.stack([decoded(example).numpy() for example in examples]).astype("float32")
    given = examples.astype(str) if examples.dtype == object else np.asarray(examples)
    np.save(folder / "examples.npy", given)
    keras.utils.save_img(folder / "picture.png", np.zeros((9, 7, 3)), scale=False)
    start = 'import sys\nsys.modules["finetune"] = None\n'
    code = code.replace('directory = "."', f'directory = "{folder}/model"')
    again = (
        "\nimport numpy\n"
        f'examples = list(numpy.load("{folder}/examples.npy"))\n'
        "examples = numpy.stack(examples) if examples[0].ndim else examples\n"
        "given = prepare(examples) if 'prepare' in globals() else examples\n"
        "logits = model.predict(given, verbose=0)\n"
        f'numpy.save("{folder}/found.npy", keras.ops.softmax(logits))\n'
    )
    command = [sys.executable, "-I", "-c", start + code + again]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    named = json.loads(done.stdout.splitlines()[0].replace("'", '"'))  # what the card's code prints
    assert named and set(named) <= set(
        json.loads((folder / "model/labels.json").read_text())["classes"]
    )
    return np.load(folder / "found.npy")
