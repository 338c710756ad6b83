"""Start-up: what need not be imported is not, native lines stay off the terminal, SIGTERM is heard."""

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
