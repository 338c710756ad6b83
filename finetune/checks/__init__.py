"""What must hold of a config by its values alone."""
