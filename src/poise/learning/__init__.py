"""Learning: who learns."""
