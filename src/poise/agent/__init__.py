"""The agent: what decides."""
