"""Learning: workers, parameter server and algorithms."""
