"""What a sweep says of its jobs: a line before each, and their results at its end."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from finetune.errors import ConfigError
from finetune.launcher import PROGRAM
from finetune.printable import printable
from finetune.record.files import read_json
from finetune.record.schema import RunRecord
from finetune.reporting.comparison.swept import shortened
from finetune.reporting.terminal.closing import near, opening_commands, quoted
from finetune.reporting.terminal.listing import Listing, number, plain, text

if TYPE_CHECKING:
    from hydra.conf import HydraConf


@dataclass(frozen=True)
class Job:
    """One job of a sweep that has ended.

    Args:
        number: Number of the job, from 0.
        overrides: Overrides that Hydra applied.
        directory: Run directory of the job, which exists once its run has started.
        record: Record of the run; None if the run did not start.
    """

    number: int
    overrides: tuple[str, ...]
    directory: Path
    record: RunRecord | None

    @property
    def status(self) -> str:
        """How the job ended."""
        return "not started" if self.record is None else self.record.status


@dataclass
class Sweep:
    """The jobs of a sweep so far.

    Args:
        console: Console to print to.
        total: Number of jobs in the sweep; None if it is not known.
        jobs: Jobs that have ended.
    """

    console: Console
    total: int | None = None
    jobs: list[Job] = field(default_factory=list)

    @contextmanager
    def job(self, hydra: "HydraConf") -> Iterator[None]:
        """Prints a title when a job starts, and remembers how the job ended.

        Args:
            hydra: Hydra's config of the job.
        """
        overrides, directory = tuple(hydra.overrides.task), Path(hydra.runtime.output_dir)
        place = "" if self.total is None else f" ({hydra.job.num + 1} of {self.total})"
        title = f"job {hydra.job.num}{place}: {_words(overrides)}".removesuffix(": ")
        self.console.print()
        self.console.print(plain(title, "bold cyan"))
        self.console.print()
        try:
            yield
        finally:
            self.jobs.append(Job(hydra.job.num, overrides, directory, _record(directory)))

    def show(self) -> None:
        """Prints a line for every job that has ended, and commands that show more about them."""
        if not self.jobs:
            return
        self.console.print()
        place = Path(os.path.commonpath([job.directory.parent for job in self.jobs]))
        title = plain(f"sweep: {self._counts()}, in {printable(near(place))}", "bold")
        self.console.print(title, soft_wrap=True)
        self.console.print()
        self.console.print(jobs_table(self.jobs, place))
        if not any(job.directory.exists() for job in self.jobs):
            return
        self.console.print()
        where = quoted(place)
        lines = [("next", f"{PROGRAM} compare {where}"), ("", f"{PROGRAM} report {where}")]
        for job in self.jobs:  # the trackers of all jobs are in the same places
            if job.record is not None:
                lines[:0] = opening_commands(job.record, job.directory)
                break
        width = max(len(label) for label, _ in lines)
        for label, line in lines:
            self.console.print(plain(f"{label:<{width}}  {line}"), soft_wrap=True)

    def _counts(self) -> str:
        states = [job.status for job in self.jobs]
        return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def _record(directory: Path) -> RunRecord | None:
    try:
        return read_json(directory / "run.json")
    except (FileNotFoundError, ConfigError):  # other problems were printed when the job ended
        return None


def num_jobs(overrides: Sequence[str]) -> int | None:
    """Returns how many jobs Hydra's own sweeper makes of overrides; None if another sweeper may run."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if any("hydra/sweeper" in text or "hydra.sweeper" in text for text in overrides):
        return None
    choices: dict[str, int] = {}  # if a key is given twice, the last override counts
    try:
        for parsed in OverridesParser.create().parse_overrides(list(overrides)):
            swept = parsed.is_sweep_override()
            if swept and not parsed.is_discrete_sweep():
                return None
            num_values = len(list(parsed.sweep_string_iterator())) if swept else 1
            choices[parsed.get_key_element()] = num_values
    except HydraException:
        return None  # Hydra reports what is wrong when the sweep runs
    return math.prod(choices.values())


def jobs_table(jobs: Sequence[Job], below: Path) -> Listing:
    """Returns a table of jobs with the overrides that differ, the accuracy, the time and the directory.

    Args:
        jobs: Jobs that have ended.
        below: Directory that holds the directories of all jobs.
    """
    common = set(jobs[0].overrides).intersection(*(job.overrides for job in jobs[1:]))
    own = [[text for text in job.overrides if text not in common] for job in jobs]
    keys = dict.fromkeys(_key(override) for overrides in own for override in overrides)
    short = shortened(list(keys))
    rows = []
    for job, overrides in zip(jobs, own, strict=True):
        shown = _words(_renamed(text, short) for text in overrides) or _words(job.overrides)
        there = job.directory.exists()
        place = printable(job.directory.relative_to(below)) if there else "–"
        rows.append([str(job.number), shown, *_results(job), place])
    headers = ("validation", "test", "seconds")
    columns = [number("job"), text("overrides"), text("status"), *map(number, headers)]
    columns.append(text("directory"))
    return Listing(columns, rows)


def _words(overrides: Iterable[str]) -> str:
    """Returns overrides without the ``+`` that lets Hydra add a key, which this program inserts itself."""
    return " ".join(override.lstrip("+") for override in overrides)


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _renamed(override: str, short: Mapping[str, str]) -> str:
    """Returns an override with the short name of its key; one that deletes its key is not changed."""
    _, equals, value = override.partition("=")
    return f"{short[_key(override)]}={value}" if equals and override[0] != "~" else override


def _results(job: Job) -> list[str]:
    record = job.record
    if record is None:
        return [job.status, "–", "–", "–"]
    validation = record.phases[-1].metrics.get("validation", {}) if record.phases else {}
    accuracies = (validation.get("accuracy"), record.test.get("accuracy"))
    shown = ["–" if accuracy is None else f"{accuracy:.2%}" for accuracy in accuracies]
    return [job.status, *shown, f"{record.seconds.get('total', 0.0):.1f}"]
