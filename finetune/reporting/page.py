"""``report.html``: a page about one run, made from its record and the files in its directory."""

import base64
import struct
from dataclasses import dataclass
from pathlib import Path

import yaml
from markupsafe import Markup

from finetune.launcher import PROGRAM, command
from finetune.record.schema import Mistake, RunRecord, Sample
from finetune.reporting import summary
from finetune.reporting.class_table import class_table
from finetune.reporting.loading_code import loading_code
from finetune.reporting.plots import Drawing
from finetune.reporting.plots.confusion import most_frequent
from finetune.reporting.remarks import remarks
from finetune.reporting.run_names import run_name, when
from finetune.reporting.templating import render
from finetune.reporting.terminal.closing import near, quoted

FILE = "report.html"
OF_THE_TEST = ("confusion", "reliability")  # pictures in the section of the test split
MOST_MISTAKES = 24
MOST_THUMBNAIL_BYTES = 100_000
MOST_SAMPLES = 8
MANY_CLASSES = 20  # a table of more classes is collapsed
SMALL_SIDE = 64  # pixels; pictures up to this size are enlarged without smoothing
_KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}  # by first bytes


@dataclass(frozen=True)
class Thumbnail:
    """A picture embedded in the page; a `small` one is enlarged without smoothing."""

    source: Markup
    small: bool


@dataclass(frozen=True)
class Shown:
    """A mistake with its embedded picture, if it has one."""

    mistake: Mistake
    image: Thumbnail | None


@dataclass(frozen=True)
class ShownSample:
    """A training example with its embedded pictures, if it has any."""

    sample: Sample
    image: Thumbnail | None
    augmented: Thumbnail | None


def report_page(record: RunRecord, directory: Path, drawings: list[Drawing]) -> str:
    """Returns the page of a run in any state.

    Args:
        record: Record of the run.
        directory: Run directory, from which thumbnails are read and which the commands name.
        drawings: Pictures of the record.
    """
    whole = {"sort_keys": False, "allow_unicode": True, "width": 10_000}
    own = record.backbone.own
    where = quoted(directory)
    return render(
        "report.html",
        record=record,
        directory=str(near(directory)),
        place=str(directory.absolute()),
        run_name=run_name(directory),
        started=when(record.started),
        facts=summary.facts(record),
        notices=summary.notices(record),
        metrics=summary.metrics(record),
        pictures=[drawing for drawing in drawings if drawing.name not in OF_THE_TEST],
        test_pictures=[drawing for drawing in drawings if drawing.name in OF_THE_TEST],
        confusions=most_frequent(record),
        mistakes=[
            Shown(mistake, _inlined(directory, mistake.image))
            for mistake in record.test_details.mistakes[:MOST_MISTAKES]
        ],
        open_phases=open_phases(record),
        class_table=class_table(record.dataset, MANY_CLASSES),
        many_classes=MANY_CLASSES,
        samples=_samples(record, directory),
        config=yaml.safe_dump(record.config, **whole).rstrip().split("\n"),
        loading=_loading(record, directory) if record.model_sha256 else None,
        own=own,
        repeat=None if own else command(*record.overrides),
        resume="fit(…, resume=True)" if own else f"{PROGRAM} resume {where}",
        remarks=list(remarks(record.dataset)),
    )


def _loading(record: RunRecord, directory: Path) -> str:
    """Returns the Python program that loads the saved model, in whatever form it is saved."""
    files, model = record.model_sha256, str(near(directory / "model"))
    if record.backbone.own:
        return f"import keras\n\nmodel = keras.saving.load_model({f'{model}/model.keras'!r})"
    text = "tokenizer.json" in files
    kind = "text" if text else "image"
    task = ("TextClassifier" if text else "ImageClassifier") if "task.json" in files else None
    if task is None and not text and "image_converter.json" not in files:
        kind = "array"
    return loading_code(kind, task, record.dataset.multi_label, directory=model).rstrip()


def open_phases(record: RunRecord) -> set[int]:
    """Returns the phases whose tables start open: the last one and those with a failed proof."""
    broken = {
        phase.index
        for phase in record.phases
        if phase.frozen_proof is not None and phase.frozen_proof.weights_changed > 0
    }
    return broken | {phase.index for phase in record.phases[-1:]}


def _samples(record: RunRecord, directory: Path) -> list[ShownSample]:
    """Returns the training examples that are texts, or whose picture files still exist."""
    found = [
        ShownSample(s, _inlined(directory, s.image), _inlined(directory, s.augmented))
        for s in record.dataset.samples[:MOST_SAMPLES]
    ]
    return [shown for shown in found if shown.image is not None or shown.sample.text is not None]


def _inlined(directory: Path, name: str | None) -> Thumbnail | None:
    """Returns a picture below a run directory for embedding; None if there is none."""
    content = None if name is None else thumbnail(directory, name)
    if content is None:
        return None
    kind = _kind(content)
    size = struct.unpack(">II", content[16:24]) if kind == "png" and len(content) > 24 else (0, 0)
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return Thumbnail(Markup(source), 0 < max(size) <= SMALL_SIDE)


def _kind(content: bytes) -> str | None:
    return next((kind for start, kind in _KINDS.items() if content.startswith(start)), None)


def thumbnail(directory: Path, name: str) -> bytes | None:
    """Returns the bytes of a small PNG or JPEG file below a run directory; None for anything else.

    A record may have been edited, so the path and the content are checked.
    """
    place = directory.resolve()
    file = (place / name).resolve()
    if not file.is_relative_to(place) or not file.is_file():
        return None
    if file.stat().st_size > MOST_THUMBNAIL_BYTES:
        return None
    content = file.read_bytes()
    return None if _kind(content) is None else content
