"""The name of a run is what a person would call it."""

from pathlib import Path

import pytest

from finetune.reporting.run_names import run_name, when


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("/a/runs/first try", "first try"),
        ("/a/outputs/2026-01-31/12-00-00-123456", "2026-01-31/12-00-00-123456"),
        ("/a/multirun/2026-01-31/12-00-00/3", "2026-01-31/12-00-00/3"),
        ("/a/sweep/3", "sweep/3"),
        ("/a/3/4", "a/3/4"),
        ("/7", "7"),
        ("/", ""),
    ],
)
def test_a_name_ends_the_path_and_is_more_than_a_number(directory, expected):
    assert run_name(Path(directory)) == expected


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ("2026-11-03T07:05:59+00:00", "3 November 2026, 07:05 UTC"),
        ("2026-11-03T07:05:59-03:30", "3 November 2026, 07:05 UTC-03:30"),
        ("", None),
        ("yesterday", None),
    ],
)
def test_a_start_is_written_for_people(started, expected):
    assert when(started) == expected
