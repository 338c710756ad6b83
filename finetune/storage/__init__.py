"""What is kept on disk: durable writes, sealed and typed JSON, and the run directory with its lock."""
