"""Where examples come from: one module for each source."""
