"""Presets: settings that are known to work for an environment, one TOML file each."""
