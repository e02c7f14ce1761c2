"""Training: runs, from settings to files."""
