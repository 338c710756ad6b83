"""Pictures of a run, drawn from its record alone and listed in one table.

These modules are imported only when something is drawn, because matplotlib takes almost a second.
"""

import os

# It selects a window toolkit, which is not used here, and an invalid name would fail the import.
_BACKEND = os.environ.pop("MPLBACKEND", None)

from finetune.reporting.plots.gallery import PICTURES, Drawing, Gallery, Picture  # noqa: E402

if _BACKEND is not None:
    os.environ["MPLBACKEND"] = _BACKEND

__all__ = ["PICTURES", "Drawing", "Gallery", "Picture"]
