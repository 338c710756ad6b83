"""Datasets that are given in Python: arrays, generators and tf.data."""
