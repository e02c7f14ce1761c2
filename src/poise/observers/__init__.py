"""Observers: objects that receive the events of a run."""
