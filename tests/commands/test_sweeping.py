"""What a sweep prints of its jobs."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from rich.console import Console

from finetune.commands import sweeping
from finetune.commands.sweeping import Job, Sweep, jobs_table, num_jobs
from finetune.record.files import RecordListener
from tests.helpers.records import make_record


def hydra(number, directory, *overrides):
    return SimpleNamespace(
        job=SimpleNamespace(num=number),
        overrides=SimpleNamespace(task=overrides),
        runtime=SimpleNamespace(output_dir=str(directory)),
    )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["seed=1"], 1),
        (["seed=1,2,3", "experiment=a,b", "++schedule.phases.head.epochs=1"], 6),
        (["seed=range(4)"], 4),
        (["hydra/sweeper=optuna", "seed=1,2"], None),
        (["seed=1,2", "seed=[1,"], None),  # Hydra says what is wrong
        (["seed=interval(1,2)"], None),
        (["seed=1,2,3", "seed=4,5"], 2),
        (["seed=glob(*)"], None),
        (["seed=choice(1,2)", "name='a,b'", "x=[1,2],[3]", "~y"], 4),
    ],
)
def test_jobs_are_counted_as_hydra_makes_them(overrides, expected):
    assert num_jobs(overrides) == expected


@pytest.mark.parametrize(
    "overrides", [["a=1,2", "b=x,y,z", "a=3,4"], ["a=range(5)", "+b=[1],[2]", "~c", "d='1,2'"]]
)
def test_the_number_is_that_of_hydras_own_sweeper(overrides):
    parsed = OverridesParser.create().parse_overrides(overrides)
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    assert num_jobs(overrides) == len(jobs)


def test_jobs_are_announced_and_listed_with_what_is_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    sweep = Sweep(Console(file=out, width=100, highlight=False), 2)
    with sweep.job(hydra(0, tmp_path / "s w/0", "a=[red]", "++seed=0")):
        record = make_record()
        record.status = "completed"
        record.phases[0].metrics["validation"] = {"loss": 1.0, "accuracy": 0.5}
        RecordListener(tmp_path / "s w/0").run_ended(record)
    with (
        pytest.raises(KeyboardInterrupt),
        sweep.job(hydra(1, tmp_path / "s w/1", "a=[red]", "++seed=1")),
    ):
        raise KeyboardInterrupt
    sweep.show()
    lines = out.getvalue().splitlines()
    assert "job 1 (2 of 2): a=[red] seed=1" in lines
    assert "sweep: 1 completed, 1 not started, in s w" in lines
    rows = [line.split() for line in lines]
    assert ["0", "seed=0", "completed", "50.00%", "25.00%", "1.0", "0"] in rows
    assert ["1", "seed=1", "not", "started", "–", "–", "–", "–"] in rows
    assert lines[-2:] == [
        "next  python -m finetune compare 's w'", "      python -m finetune report 's w'"
    ]  # fmt: skip


def test_a_sweep_of_which_no_job_began_says_nothing():
    out = io.StringIO()
    Sweep(Console(file=out)).show()
    assert out.getvalue() == ""


def test_one_job_alone_shows_all_its_overrides():
    out = io.StringIO()
    Console(file=out, width=80).print(jobs_table([Job(0, ("seed=1",), Path("x"), None)], Path()))
    assert "seed=1" in out.getvalue()


def test_the_results_of_a_sweep_over_long_keys_fit_80_columns(tmp_path):
    jobs = []
    for number, rate in enumerate(("0.001", "0.01")):
        directory = tmp_path / "multirun/2026-01-31/12-00-00-000000" / str(number)
        directory.mkdir(parents=True)
        key = "++schedule.phases.head.learning_rate"
        overrides = ("experiment=resnet_probe", f"{key}={rate}", "~seed")
        jobs.append(Job(number, overrides[: 3 - number], directory, None))
    out = io.StringIO()
    Console(file=out, width=80).print(jobs_table(jobs, jobs[0].directory.parent))
    rows = [line.split() for line in out.getvalue().splitlines()]
    missing = ["not", "started", "–", "–", "–"]
    assert rows[1:] == [
        ["0", "lr=0.001", "~seed", *missing, "0"],
        ["1", "lr=0.01", *missing, "1"],
    ]


def test_a_record_that_is_damaged_hides_nothing(tmp_path):
    (tmp_path / "run.json").write_text("{")
    assert sweeping._record(tmp_path) is None
