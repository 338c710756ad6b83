"""The datasets that are part of the package."""
