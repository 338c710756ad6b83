"""Start-up: what need not be imported is not, and native libraries stay off the user's terminal."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


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
            if not hasattr(error, "exit_code"):  # not one of ours: the lines may say why
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
