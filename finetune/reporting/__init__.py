"""Terminal output, pages, pictures and trackers of a run. Reads records only, never a live model."""
