"""Datasets: what there is, how it is loaded, and how its images become batches."""
