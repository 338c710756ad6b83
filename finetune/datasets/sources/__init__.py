"""The sources that examples come from, one module each."""
