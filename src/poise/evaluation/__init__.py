"""Evaluation: the scores that policies reach."""
