"""Start-up: what need not be imported is not, native lines stay off the terminal, SIGTERM is heard."""

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

_SOON = 0.05  # seconds, after which a finalizer has ended
STARTED = time.time()  # of this process, as nearly as it can tell


@contextmanager
def native_stderr_held() -> Iterator[None]:
    """Holds file descriptor 2 back; what was written is shown only if the block fails.

    TensorFlow writes lines such as «could not find cuda drivers» before its log level can be set.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException as error:
            os.dup2(saved, 2)
            # Neither one of ours nor Ctrl-C: the lines may say why.
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
    """Lets Keras run on TensorFlow in this process, whatever the environment or keras.json says.

    Returns:
        What to tell the user; None where nothing else was asked for.
    """
    asked = os.environ.get(BACKEND, "")
    os.environ[BACKEND] = "tensorflow"
    if asked in ("", "tensorflow"):
        return None
    return f"{BACKEND}={asked} is left aside: this program trains with TensorFlow"


def require_tensorflow() -> None:
    """Refuses a process in which Keras runs, or would run, on something else than TensorFlow.

    Raises:
        ConfigError: saying what to set; a process of the user's own is not changed.
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
    """Replaces what an encoding has no letter for: signs by plain ones, others by an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = (
        _PLAIN.get(each) or ascii(each)[1:-1] for each in error.object[error.start : error.end]
    )
    return "".join(shown), error.end


codecs.register_error("finetune.plain", _written_plainly)


def write_plainly(*streams: Any) -> None:
    """Lets text streams that are not UTF-8 write any text, in place."""
    for stream in streams:
        encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-")
        if not encoding.startswith("utf") and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="finetune.plain")


@contextmanager
def left_out(*modules: str) -> Iterator[None]:
    """Makes optional imports of `modules` fail in the block, so that they cost nothing there.

    A module that is already imported stays.
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
    """Raises Ctrl-C and SIGTERM again where Python drops what is raised.

    That is in a finalizer, a weak reference's callback or a callback of C code, which the garbage
    collector and libraries may run at any time: the process would go on as if nothing had been
    pressed.
    """
    before = sys.unraisablehook

    def report(unraisable: Any) -> None:
        try:
            if not issubclass(unraisable.exc_type, KeyboardInterrupt):
                before(unraisable)
                return
        except KeyboardInterrupt:  # while the other error was being printed
            pass
        # Not at once, which would raise it in here. Nor by `threading`: the finalizer may run while
        # one of its locks is held.
        _thread.start_new_thread(_interrupt_soon, ())

    sys.unraisablehook = report
    try:
        yield
    finally:
        sys.unraisablehook = before


def _interrupt_soon() -> None:
    time.sleep(_SOON)
    # In a job of the background SIGINT is ignored, and only SIGTERM can have been asked for.
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    _thread.interrupt_main(signal.SIGTERM if ignored else signal.SIGINT)


@contextmanager
def sigterm_raised() -> Iterator[None]:
    """Takes SIGTERM as Ctrl-C, unless it is handled or ignored already."""

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
