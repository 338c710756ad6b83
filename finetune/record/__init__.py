"""What a run writes down: the record, its files, and the listeners of a run."""
