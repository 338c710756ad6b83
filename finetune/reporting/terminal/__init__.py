"""Terminal output of a run: header, progress bar, epoch lines, tables and closing lines."""
