"""Experiment trackers: TensorBoard always, others by option and through their own libraries.

Each has a module that implements one protocol, and one listener drives them all.
"""
