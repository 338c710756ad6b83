"""The task of a model: its head, its targets, its loss and its metrics."""
