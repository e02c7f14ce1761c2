"""The world: what happens."""
