"""From a checked config to a finished run."""
