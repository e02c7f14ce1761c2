"""Maths: formulas on arrays, one trajectory at a time."""
