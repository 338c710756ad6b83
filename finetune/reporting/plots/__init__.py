"""Pictures of a run, from its record alone; one table names them all.

No module here is imported before something is to be drawn: matplotlib takes most of a second.
"""

from finetune.reporting.plots.gallery import PICTURES, Drawing, Gallery, Picture

__all__ = ["PICTURES", "Drawing", "Gallery", "Picture"]
