"""Training: runs, from their settings to their files."""
