"""Start-up helpers give everything back."""

import importlib
import io
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from finetune.errors import ConfigError
from finetune.startup import (
    choose_tensorflow,
    interrupts_kept,
    left_out,
    require_tensorflow,
    write_plainly,
)


def test_left_out_modules_come_back(tmp_path, monkeypatch):
    (tmp_path / "left_out_example.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with left_out("left_out_example", "os"):
        with pytest.raises(ImportError):
            importlib.import_module("left_out_example")
        assert sys.modules["os"] is os
    assert importlib.import_module("left_out_example").value == 1


@pytest.mark.parametrize(
    ("body", "shown"),
    [("pass", False), ("raise ValueError", True), ("raise ConfigError('x')", False)],
)
def test_native_lines_are_shown_only_with_an_unexpected_failure(body, shown):
    script = (
        "import os\nfrom finetune.startup import native_stderr_held\n"
        "from finetune.errors import ConfigError\n"
        "try:\n  with native_stderr_held():\n"
        f"    os.write(2, b'native line'); {body}\n"
        "except Exception: pass\nos.write(2, b'after')\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0
    assert ("native line" in result.stderr) == shown
    assert result.stderr.endswith("after")


@pytest.mark.parametrize(
    ("asked", "told"), [("jax", True), ("torch", True), ("tensorflow", False), ("", False)]
)
def test_a_command_trains_with_tensorflow_whatever_the_shell_says(asked, told, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", asked)
    notice = choose_tensorflow()
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    assert notice == (
        f"KERAS_BACKEND={asked} is ignored: this program trains with TensorFlow" if told else None
    )


@pytest.mark.parametrize("imported", [True, False])
def test_python_is_told_to_choose_tensorflow(imported, monkeypatch):
    keras = SimpleNamespace(config=SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", keras if imported else None)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(
        ConfigError, match="Keras must run on TensorFlow .* Received: torch. Set KERAS_BACKEND"
    ):
        require_tensorflow()
    monkeypatch.delenv("KERAS_BACKEND")
    if not imported:
        require_tensorflow()  # keras.json may name another one
        assert os.environ["KERAS_BACKEND"] == "tensorflow"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "1-2 ... x \\xe9 \\u732b"),
        ("latin-1", "1-2 ... × é \\u732b"),
        ("utf-8", "1–2 … × é 猫"),
    ],
)
def test_a_terminal_shows_what_its_encoding_has_and_the_rest_plainly(encoding, shown):
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding)
    write_plainly(stream, io.StringIO())
    print("1–2 … × é 猫", file=stream, flush=True)
    assert written.getvalue().decode(encoding) == f"{shown}\n"


def test_what_a_run_prints_fits_an_ascii_terminal():
    script = (
        "from tests.helpers.records import make_record\n"
        "from finetune.reporting.terminal.console import make_console, show_plan\n"
        "console = make_console()\nshow_plan(console, make_record())\nconsole.print('–│━ é')\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    assert "-|= \\xe9" in done.stdout.decode("ascii")
    for arguments in (["--help"], ["trian"], ["catalog"]):
        done = subprocess.run(
            [sys.executable, "-m", "finetune", *arguments], capture_output=True, env=environment
        )
        assert done.returncode in (0, 2)
        assert b"Traceback" not in done.stderr


def wait():
    """Waits in short sleeps: an interrupt that Python notes without a signal ends none of them."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        time.sleep(0.01)


class _Raises:
    def __init__(self, error):
        self.error = error

    def __del__(self):
        raise self.error


@pytest.fixture(params=["SIGINT", "SIGTERM"])
def handled(request):
    """Lets one of the two signals raise; SIGINT is ignored otherwise, as in a background job."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(getattr(signal, request.param), signal.default_int_handler)
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handled")
def test_an_interrupt_in_a_finalizer_arrives_a_little_later(monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: shown.append(unraisable.exc_type))
    with interrupts_kept():
        _Raises(ValueError())
        with pytest.raises(KeyboardInterrupt):
            _Raises(KeyboardInterrupt())
            wait()
    assert shown == [ValueError]
    _Raises(OSError())
    assert shown == [ValueError, OSError]


@pytest.mark.usefixtures("handled")
def test_an_interrupt_arrives_that_comes_while_another_error_is_printed(monkeypatch):
    def interrupted(unraisable):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "unraisablehook", interrupted)
    with interrupts_kept(), pytest.raises(KeyboardInterrupt):
        _Raises(ValueError())
        wait()
