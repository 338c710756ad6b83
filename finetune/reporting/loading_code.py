"""A Python program to copy that loads a trained model with KerasHub and Keras alone."""

import json

_LABELS = (
    'classes = json.loads(Path(directory, "labels.json").read_text(encoding="utf-8"))["classes"]'
)
_EXAMPLES = {
    "image": (
        'image = keras.utils.img_to_array(keras.utils.load_img("picture.png"))  # float32, RGB, 0..255',
        "examples = image[None]",
    ),
    "text": ('examples = ["a text", "another one"]',),
    "array": ("examples = ...  # (batch, ...), as in training",),
}
_PREPROCESSORS = {
    "image": "keras_hub.layers.ImageConverter",
    "text": "keras_hub.models.TextClassifierPreprocessor",
}


def loading_code(
    kind: str, task: str | None, multi_label: bool, from_logits: bool = True, directory: str = "."
) -> str:
    """Returns a program that loads a model directory and prints the class of an example.

    Args:
        kind: Kind of the examples: ``image``, ``text`` or ``array``.
        task: Class of `keras_hub.models` that loads the directory; None for ``model.keras``.
        multi_label: Whether an example may have any number of labels.
        from_logits: Whether the outputs are logits rather than probabilities.
        directory: Directory of the model.
    """
    hub = [] if kind == "array" else ["import keras_hub"]
    model = f"keras_hub.models.{task}.from_preset(directory)"
    inputs = "examples"
    prepare: list[str] = []
    if task is None:
        model = 'keras.saving.load_model(Path(directory, "model.keras"))'
        if kind != "array":
            prepare = [f"prepare = {_PREPROCESSORS[kind]}.from_preset(directory)"]
            inputs = "prepare(examples)"
    outputs = f"model.predict({inputs}, verbose=0)"
    if from_logits:
        outputs = f"keras.ops.{'sigmoid' if multi_label else 'softmax'}({outputs})"
    answer = (
        "[[classes[index] for index in row.nonzero()[0]] for row in probabilities > 0.5]"
        if multi_label
        else "[classes[index] for index in probabilities.argmax(-1)]"
    )
    lines = [
        *("import json", "from pathlib import Path", "", "import keras", *hub, ""),
        f"directory = {json.dumps(directory, ensure_ascii=False)}",
        _LABELS,
        f"model = {model}",
        *prepare,
        *_EXAMPLES[kind],
        f"probabilities = keras.ops.convert_to_numpy({outputs})",
        f"print({answer})",
    ]
    return "\n".join(lines) + "\n"
