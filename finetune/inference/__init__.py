"""Inference: loads a trained model from its run directory, evaluates it, predicts and exports."""
