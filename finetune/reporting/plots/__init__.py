"""Pictures of a run, from its record alone; one table names them all.

No module here is imported before something is to be drawn: matplotlib takes most of a second.
"""

import os

# It chooses a window toolkit, none of which is used here, and a name that is none ends the import.
_BACKEND = os.environ.pop("MPLBACKEND", None)

from finetune.reporting.plots.gallery import PICTURES, Drawing, Gallery, Picture  # noqa: E402

if _BACKEND is not None:
    os.environ["MPLBACKEND"] = _BACKEND

__all__ = ["PICTURES", "Drawing", "Gallery", "Picture"]
