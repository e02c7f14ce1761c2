"""Evaluation: what a policy reaches."""
