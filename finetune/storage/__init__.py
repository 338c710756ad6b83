"""What lasts on disk: durable writes, typed JSON, and the run directory with its lock."""
