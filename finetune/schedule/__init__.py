"""The schedule: phases in time."""
