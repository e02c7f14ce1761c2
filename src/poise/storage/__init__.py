"""Storage: a run's folder and its files."""
