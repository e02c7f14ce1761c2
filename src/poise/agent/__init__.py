"""The agent: networks, action heads and policies."""
