"""The fast tests follow from what was measured, and the contracts of freezing are always among them."""

import ast
from types import SimpleNamespace

from tests.helpers import durations

TESTS = durations.FILE.parent
LISTED = {"tests/a.py::test_long": 2.0, "tests/a.py::trained": 9.0}


def item(nodeid, *fixtures, marks=()):
    return SimpleNamespace(
        nodeid=nodeid,
        fixturenames=fixtures,
        get_closest_marker=lambda name: name if name in marks else None,
    )


def test_a_test_is_fast_until_it_is_listed():
    assert durations.is_fast(item("tests/a.py::test_new"), LISTED)
    assert not durations.is_fast(item("tests/a.py::test_long[1-a]"), LISTED)


def test_a_test_that_waits_for_a_long_fixture_is_not_fast():
    assert not durations.is_fast(item("tests/a.py::test_new", "tmp_path", "trained"), LISTED)
    assert durations.is_fast(item("tests/b.py::test_new", "trained"), LISTED)


def test_what_is_marked_slow_or_needs_a_browser_is_not_fast():
    for name in durations.NEVER_FAST:
        assert not durations.is_fast(item("tests/freezing/a.py::test_new", marks=[name]), {})
    for folder in durations.NEVER_FAST_FOLDERS:
        assert (TESTS.parent / folder).is_dir()
        assert not durations.is_fast(item(f"{folder}a.py::test_new"), {})


def test_the_contracts_of_freezing_are_fast(request):
    name = "tests/freezing/test_freezing.py::test_long"
    assert durations.is_fast(item(name), {name: 60.0})
    assert all((TESTS.parent / place).exists() for place in durations.ALWAYS_FAST)
    assert request.node.get_closest_marker("fast")
    for collected in request.session.items:  # all of them when the whole suite runs
        if collected.nodeid.startswith(durations.ALWAYS_FAST):
            assert durations.is_fast(collected, {}) == bool(collected.get_closest_marker("fast"))


def names_in(module):
    tree = ast.parse((TESTS.parent / module).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_most_of_what_is_listed_is_still_there():
    """If this fails, measure again: pytest --update-durations."""
    listed = durations.read()
    assert len(listed) > 100
    there = [
        name
        for name in listed
        if (TESTS.parent / name.partition("::")[0]).is_file()
        and name.rpartition("::")[2] in names_in(name.partition("::")[0]) | {"browser"}
    ]
    assert len(there) >= 0.8 * len(listed)


def test_a_new_measurement_replaces_the_old_one():
    here = "tests/test_durations.py::"
    listed = {f"{here}old": 2.0, f"{here}kept": 3.0, "tests/gone.py::test": 9.0}
    measured = {f"{here}old": 0.1, f"{here}new": 1.26}
    assert durations.merged(listed, measured) == {f"{here}kept": 3.0, f"{here}new": 1.3}


def test_the_longest_modules_come_first():
    items = [item(f"tests/{name}.py::test_x") for name in ("b", "a", "c")]
    listed = {"tests/a.py::test_x": 1.0, "tests/c.py::one": 2.0, "tests/c.py::two": 2.0}
    ordered = durations.by_expense(items, listed)
    assert [one.nodeid[6] for one in ordered] == ["c", "a", "b"]


def test_the_measured_seconds_are_those_of_the_test_and_of_its_shared_fixtures(pytester):
    pytester.makepyfile(
        test_a="""
        import time, pytest

        def spend(seconds):
            end = time.process_time() + seconds
            while time.process_time() < end:
                pass

        @pytest.fixture(scope="module")
        def shared():
            spend(0.3)

        @pytest.mark.parametrize("n", [1, 2])
        def test_x(shared, n):
            spend(0.2)
        """
    )
    written = durations.Written()
    result = pytester.inline_run(plugins=[durations.Measured(), Seen(written)])
    result.assertoutcome(passed=2)
    assert set(written.seconds) == {"test_a.py::shared", "test_a.py::test_x"}
    assert 0.3 <= written.seconds["test_a.py::shared"] < 0.38
    assert 0.4 <= written.seconds["test_a.py::test_x"] < 0.55


class Seen:
    """Passes reports on without writing the file."""

    def __init__(self, written):
        self.pytest_runtest_logreport = written.pytest_runtest_logreport
