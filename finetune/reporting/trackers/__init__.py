"""Trackers: TensorBoard always, others by option through their own libraries.

One module for each, behind one protocol; one listener drives them all.
"""
