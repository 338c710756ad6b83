"""How good a model is: metrics, the test split, and pictures of mistakes."""
