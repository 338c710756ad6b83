"""``report.html``: one run as one file, from its record and what lies in its directory."""

import base64
from dataclasses import dataclass
from pathlib import Path

import yaml
from markupsafe import Markup

from finetune.launcher import PROGRAM, command
from finetune.record import Mistake, RunRecord
from finetune.reporting import summary
from finetune.reporting.loading_code import loading_code
from finetune.reporting.plots import Drawing
from finetune.reporting.plots.confusion import most_frequent
from finetune.reporting.remarks import remarks
from finetune.reporting.templating import render
from finetune.reporting.terminal.closing import near, quoted

FILE = "report.html"
OF_THE_TEST = ("confusion", "reliability")  # pictures that stand beside its tables
MOST_MISTAKES = 24
MOST_THUMBNAIL_BYTES = 100_000
OPEN_PHASES = 6  # tables of so many phases are open from the start
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Shown:
    """A mistake, with its picture as part of the page where there is one."""

    mistake: Mistake
    image: Markup | None


def report_page(record: RunRecord, directory: Path, drawings: list[Drawing]) -> str:
    """Returns the page.

    Args:
        record: of the run, however far it has come.
        directory: the run directory; thumbnails are read from it, and commands name it.
        drawings: pictures of the record.
    """
    whole = {"sort_keys": False, "allow_unicode": True, "width": 10_000}
    own = record.backbone.own
    where = quoted(directory)
    return render(
        "report.html",
        record=record,
        directory=str(near(directory)),
        facts=summary.facts(record),
        notices=summary.notices(record),
        metrics=summary.metrics(record),
        pictures=[each for each in drawings if each.name not in OF_THE_TEST],
        test_pictures=[each for each in drawings if each.name in OF_THE_TEST],
        confusions=most_frequent(record),
        mistakes=[_shown(each, directory) for each in record.test_details.mistakes[:MOST_MISTAKES]],
        open_phases=len(record.phases) <= OPEN_PHASES,
        config=yaml.safe_dump(record.config, **whole).rstrip().split("\n"),
        loading=_loading(record, directory) if record.model_sha256 else None,
        own=own,
        repeat=None if own else command(*record.overrides),
        go_on="fit(…, resume=True)" if own else f"{PROGRAM} resume {where}",
        remarks=list(remarks(record.dataset)),
    )


def _loading(record: RunRecord, directory: Path) -> str:
    """Returns the program that loads the saved model, whatever it is saved as."""
    files, model = record.model_sha256, str(near(directory / "model"))
    if record.backbone.own:
        return f"import keras\n\nmodel = keras.saving.load_model({f'{model}/model.keras'!r})"
    text = "tokenizer.json" in files
    kind = "text" if text else "image"
    task = ("TextClassifier" if text else "ImageClassifier") if "task.json" in files else None
    if task is None and not text and "image_converter.json" not in files:
        kind = "array"
    return loading_code(kind, task, record.dataset.multi_label, directory=model).rstrip()


def _shown(mistake: Mistake, directory: Path) -> Shown:
    content = None if mistake.image is None else thumbnail(directory, mistake.image)
    if content is None:
        return Shown(mistake, None)
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return Shown(mistake, Markup(source))


def thumbnail(directory: Path, name: str) -> bytes | None:
    """Returns the bytes of a small PNG below a run directory; None for anything else.

    A record may have been edited: what it names is looked at before it is shown.
    """
    place = directory.resolve()
    file = (place / name).resolve()
    if not file.is_relative_to(place) or not file.is_file():
        return None
    if file.stat().st_size > MOST_THUMBNAIL_BYTES:
        return None
    content = file.read_bytes()
    return content if content.startswith(_PNG) else None
