"""Imports what builds models, once a command knows that it needs it."""

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
    """Imports a module of this package, and so TensorFlow, with its start-up lines held back."""
    # Where the log cannot be written, what matters cannot either, and says so in one line.
    logging.raiseExceptions = False
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    notice = choose_tensorflow()
    if notice is not None:
        print(notice, file=sys.stderr)
    # Off by default on AMD processors, where it doubles the speed of convolutions.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    logging.getLogger("absl").setLevel(logging.ERROR)
    # Keras imports it where it is there, for wrappers that no run uses: a second. What needs it
    # imports it later.
    with native_stderr_held(), left_out("sklearn"):
        return importlib.import_module(module)
