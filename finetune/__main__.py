"""``python -m finetune``."""

import os
import sys

from finetune.cli import INTERRUPTED, main

if __name__ == "__main__":
    code = main()
    if code == INTERRUPTED:  # Python itself may end by the signal instead, and TensorFlow late
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
