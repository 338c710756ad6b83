"""Images: what their bytes say, how they are decoded, and how they are varied."""
