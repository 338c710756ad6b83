"""Datasets: the catalog, their loading, and the batches made from their examples."""
