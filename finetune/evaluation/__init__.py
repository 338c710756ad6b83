"""Evaluation: metrics, assessment of the test split, and previews of examples and mistakes."""
