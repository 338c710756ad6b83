"""Runs side by side, from their records: as tables, files and a page."""
