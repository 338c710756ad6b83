"""Reports are written when they should be, cost little, and never end a run."""

import pytest

from finetune.reporting import report
from finetune.reporting.report import ReportListener, write_report
from tests.helpers.records import make_run


@pytest.fixture
def kept():
    return []


@pytest.fixture
def listener(tmp_path, kept):
    return ReportListener(tmp_path, lambda record: kept.append(dict(record.seconds)))


def test_the_end_of_a_run_writes_page_and_pictures_and_what_they_took(tmp_path, listener, kept):
    record = make_run()
    record.seconds = {"total": 20.0, "reporting": 1.0}
    listener.run_ended(record)
    assert "resnet_mini on pets" in (tmp_path / "report.html").read_text()
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert {"freeze_map.png", "freeze_map.svg", "curves.png", "time.svg"} <= names
    assert len(names) == 12
    spent = record.seconds["reporting"] - 1.0
    assert spent > 0
    assert record.seconds["total"] == pytest.approx(20.0 + spent)
    assert kept == [record.seconds]


def test_a_page_at_a_phases_end_waits_until_it_costs_little(tmp_path, listener, monkeypatch):
    record = make_run("running")
    now = [0.0]
    monkeypatch.setattr(report.time, "monotonic", lambda: now[0])
    written = []

    def write(self, record):
        written.append(now[0])
        now[0] += 3.0  # its cost

    monkeypatch.setattr(ReportListener, "_page", write)
    listener.run_started(record)
    for now[0] in (19.0, 21.0, 50.0, 55.0):  # the first is written from 10 × 2 s on
        listener.phase_ended(record, record.phases[0])
    assert written == [21.0, 55.0]  # 24 + 10 × 3 s is 54
    assert record.seconds["reporting"] == pytest.approx(0.5 + 6.0)


def test_a_page_at_a_phases_end_comes_without_files_of_pictures(tmp_path, listener, monkeypatch):
    monkeypatch.setattr(report, "SPARING", 0.0)
    record = make_run("running")
    listener.run_started(record)
    listener.phase_ended(record, record.phases[0])
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "This run had not ended" in (tmp_path / "report.html").read_text()


def test_a_job_of_a_sweep_writes_its_page_alone(tmp_path, kept):
    ReportListener(tmp_path, kept.append, pictures=False).run_ended(make_run())
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert len(kept) == 1


def test_what_fails_is_logged_and_ends_nothing(tmp_path, listener, kept, caplog):
    record = make_run()
    (tmp_path / "plots").write_text("in the way")
    record.test = {"accuracy": 1.0}  # no loss: the page cannot be written
    listener.run_ended(record)
    assert caplog.text.count("the report could not be written; the run continues") == 2
    assert "FileExistsError" in caplog.text and "KeyError" in caplog.text
    assert len(kept) == 1


def test_a_report_is_rewritten_from_a_record(tmp_path):
    paths = write_report(make_run(), tmp_path)
    assert paths[0] == tmp_path / "report.html"
    assert len(paths) == 13 and all(path.is_file() for path in paths)
    before = [path.read_bytes() for path in paths]
    write_report(make_run(), tmp_path)
    assert [path.read_bytes() for path in paths] == before
