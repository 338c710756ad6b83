"""Which tests are fast: those that took little CPU time when the whole suite was last measured.

`tests/durations.json` holds the CPU seconds of each test function, and of each fixture that a module shares, that
took at least `LIMIT` seconds; `pytest --update-durations` rewrites it. A test gets the marker `fast`
if neither it nor a shared fixture that it uses is listed. So a new test is fast until it is measured,
and nobody has to keep a list. CPU seconds hardly depend on what else the machine is doing.
"""

import json
import resource
from collections import defaultdict
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[1] / "durations.json"
LIMIT = 0.3
NEVER_FAST = ("slow", "browser", "gpu", "network")
# The promises about frozen weights and the rules of the architecture, even where a test takes longer.
ALWAYS_FAST = ("tests/freezing/", "tests/test_architecture.py")
# Whole commands are run by the whole suite alone.
NEVER_FAST_FOLDERS = ("tests/end_to_end/",)
SHARED = ("module", "class", "package")


def read():
    """Returns CPU seconds by the node id of a test function or `FOLDER_OR_MODULE::FIXTURE`."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def is_fast(item, listed):
    """Tells whether a test is in the fast set."""
    if any(item.get_closest_marker(name) for name in NEVER_FAST):
        return False
    if item.nodeid.startswith(ALWAYS_FAST):
        return True
    if item.nodeid.startswith(NEVER_FAST_FOLDERS):
        return False
    module = item.nodeid.partition("::")[0]
    names = [function_of(item.nodeid), *(f"{module}::{name}" for name in item.fixturenames)]
    return not any(name in listed for name in names)


def function_of(nodeid):
    """Returns the node id of a test without its parameters."""
    return nodeid.partition("[")[0]


def cpu_seconds():
    """Returns the CPU seconds of this process and of its ended children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in usages)


class Measured:
    """Measures tests and shared fixtures, in the process that runs them.

    With xdist that is a worker; the figures travel to the controller in the tests' reports.
    """

    def __init__(self):
        self._spent = defaultdict(float)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        before, nested = cpu_seconds(), sum(self._spent.values())
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                name = f"{request.node.nodeid}::{fixturedef.argname}"
                inner = sum(self._spent.values()) - nested
                key = name if fixturedef.scope in SHARED else "session"
                self._spent[key] += cpu_seconds() - before - inner

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item):
        self._spent.clear()
        item.stash[STARTED] = cpu_seconds()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item):
        try:
            return (yield)
        finally:
            whole = cpu_seconds() - item.stash[STARTED]
            own = {function_of(item.nodeid): whole - sum(self._spent.values())}
            spent = {name: seconds for name, seconds in self._spent.items() if name != "session"}
            item.user_properties.append(("cpu_seconds", own | spent))


class Written:
    """Adds up what the tests report and rewrites the file when the session ends."""

    def __init__(self):
        self.seconds = defaultdict(float)

    def pytest_runtest_logreport(self, report):
        if report.when == "teardown":
            for name, seconds in dict(report.user_properties).get("cpu_seconds", {}).items():
                self.seconds[name] += seconds

    def pytest_sessionfinish(self):
        FILE.write_text(text_of(merged(read(), self.seconds)), encoding="utf-8")


def merged(listed, measured):
    """Returns what is to be listed: what was measured now, and else what was listed before.

    Files that are no longer there are left out.
    """
    root = FILE.parents[1]
    kept = {name: s for name, s in listed.items() if (root / name.partition("::")[0]).exists()}
    both = kept | {name: round(seconds, 1) for name, seconds in measured.items()}
    return {name: seconds for name, seconds in sorted(both.items()) if seconds >= LIMIT}


def text_of(listed):
    """Returns the content of the file, one entry a line."""
    return json.dumps(listed, indent=0, ensure_ascii=False) + "\n"


def by_expense(items, listed):
    """Returns tests in an order in which the modules that take longest start first.

    The two processes of `scripts/test` then end at about the same time.
    """
    spent = defaultdict(float)
    for name, seconds in listed.items():
        spent[name.partition("::")[0]] += seconds
    return sorted(items, key=lambda item: -spent[item.nodeid.partition("::")[0]])


STARTED = pytest.StashKey[float]()
