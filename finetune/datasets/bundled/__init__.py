"""The datasets that come with the package."""
