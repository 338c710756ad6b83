"""Datasets passed in Python: arrays, `tf.data.Dataset` and `keras.utils.PyDataset`."""
