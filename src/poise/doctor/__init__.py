"""The doctor: examines an environment before training."""
