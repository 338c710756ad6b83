"""What a model is trained for: its head, its targets, its loss and its metrics."""
