"""The typed config: its schema, its checks, and how Hydra composes it and files keep it."""
