"""Checkpoints: writing, finding and validating them."""
