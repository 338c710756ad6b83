"""Writes a trained model for another runtime, and checks it there against the run."""
