"""What a person sees of a run. Reads records only, never a live model."""
