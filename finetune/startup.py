"""Start-up: fewer imports, no native log lines on the terminal, and signals that end a run cleanly."""

import _thread
import codecs
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from finetune.errors import ConfigError

_SOON = 0.05  # seconds; a finalizer has ended by then
STARTED = time.time()  # when this process started, to within the time of a few imports


@contextmanager
def native_stderr_held() -> Iterator[None]:
    """Buffers file descriptor 2 and shows what was written to it only if the block fails.

    TensorFlow writes lines such as "could not find cuda drivers" before its log level can be set.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException as error:
            os.dup2(saved, 2)
            # For any error but this package's own and Ctrl-C, the lines may give the reason.
            if isinstance(error, Exception) and not hasattr(error, "exit_code"):
                held.seek(0)
                os.write(2, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


BACKEND = "KERAS_BACKEND"


def choose_tensorflow() -> str | None:
    """Makes Keras use TensorFlow in this process, whatever the environment or keras.json says.

    Returns:
        A notice for the user if the environment asked for another backend, else None.
    """
    asked = os.environ.get(BACKEND, "")
    os.environ[BACKEND] = "tensorflow"
    if asked in ("", "tensorflow"):
        return None
    return f"{BACKEND}={asked} is ignored: this program trains with TensorFlow"


def require_tensorflow() -> None:
    """Refuses a process in which Keras uses, or would use, another backend than TensorFlow.

    Raises:
        ConfigError: If it does. The process is the user's own, so its backend is not changed.
    """
    keras = sys.modules.get("keras")
    if keras is None:
        asked = os.environ.setdefault(BACKEND, "tensorflow")
    else:
        asked = keras.config.backend()
    if asked != "tensorflow":
        raise ConfigError(
            f"Keras must run on TensorFlow to be trained by finetune. Received: {asked}. Set "
            f"{BACKEND}=tensorflow in the environment before Keras is imported."
        )


_PLAIN = dict(zip("–—…×·±“”’‘→←≥≤│─━█░•∞", "--.x*+\"\"''><><|-=#.*~", strict=True))
_PLAIN |= {"…": "...", "→": "->", "←": "<-", "±": "+-", "≥": ">=", "≤": "<=", "‖": "||"}


def _written_plainly(error: UnicodeError) -> tuple[str, int]:
    """Replaces characters that an encoding lacks: signs by ASCII signs, all others by escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = (
        _PLAIN.get(character) or ascii(character)[1:-1]
        for character in error.object[error.start : error.end]
    )
    return "".join(shown), error.end


codecs.register_error("finetune.plain", _written_plainly)


def write_plainly(*streams: Any) -> None:
    """Makes text streams that are not UTF-8 accept any text; changes the streams in place."""
    for stream in streams:
        encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-")
        if not encoding.startswith("utf") and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="finetune.plain")


@contextmanager
def left_out(*modules: str) -> Iterator[None]:
    """Makes optional imports of `modules` fail inside the block, so that they take no time.

    Modules that are already imported stay available.
    """
    absent = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type] - None refuses an import
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Raises Ctrl-C and SIGTERM again if Python has dropped them.

    Python drops exceptions in finalizers, in callbacks of weak references and in callbacks of C code,
    which the garbage collector and libraries may run at any time. The process would continue as if
    nobody had pressed Ctrl-C.
    """
    before = sys.unraisablehook

    def report(unraisable: Any) -> None:
        try:
            if not issubclass(unraisable.exc_type, KeyboardInterrupt):
                before(unraisable)
                return
        except KeyboardInterrupt:  # it came while the other error was being printed
            pass
        # Raised at once, it would be dropped here too. `threading` cannot be used: the finalizer may
        # run while one of its locks is held.
        _thread.start_new_thread(_interrupt_soon, ())

    sys.unraisablehook = report
    try:
        yield
    finally:
        sys.unraisablehook = before


def _interrupt_soon() -> None:
    time.sleep(_SOON)
    # SIGINT is ignored in a background job, so the signal was SIGTERM.
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    _thread.interrupt_main(signal.SIGTERM if ignored else signal.SIGINT)


@contextmanager
def sigterm_raised() -> Iterator[None]:
    """Handles SIGTERM like Ctrl-C, unless it is already handled or ignored."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
