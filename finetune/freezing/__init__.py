"""Which weights train, which are held, and the proof that the held ones did not change."""
