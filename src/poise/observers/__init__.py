"""Observers: who listens to the events of a run."""
