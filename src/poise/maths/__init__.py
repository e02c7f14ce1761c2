"""Maths: formulas on arrays, each for one trajectory."""
