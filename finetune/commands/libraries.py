"""Imports the modules that build models, and with them TensorFlow, once a command needs them."""

import importlib
import logging
import os
import sys
from types import ModuleType

from finetune.startup import choose_tensorflow, left_out, native_stderr_held


def import_runs() -> ModuleType:
    """Imports `finetune.runs.run`, and so TensorFlow."""
    return import_quietly("finetune.runs.run")


def import_quietly(module: str) -> ModuleType:
    """Imports a module of this package, and so TensorFlow, without its start-up lines on stderr."""
    # If the log cannot be written, other files cannot either, and one message about those is enough.
    logging.raiseExceptions = False
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    notice = choose_tensorflow()
    if notice is not None:
        print(notice, file=sys.stderr)
    # Off by default on AMD processors, although it doubles the speed of convolutions there.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    logging.getLogger("absl").setLevel(logging.ERROR)
    # If scikit-learn is installed, Keras imports it for wrappers that no run uses, which takes a
    # second. Modules that need it import it later.
    with native_stderr_held(), left_out("sklearn"):
        return importlib.import_module(module)
