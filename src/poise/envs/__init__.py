"""Environments: finding, checking, seeding and stepping them."""
