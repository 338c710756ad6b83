"""Trained models at work: loaded from their run directory, measured, asked about new examples."""
