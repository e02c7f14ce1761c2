"""What flags may say, where no setting of a run checks it."""

from poise.errors import ConfigError

__all__ = ["require_positive"]


def require_positive(flag: str, value: int) -> None:
    """Raise `ConfigError` unless the value of a flag is 1 or more."""
    if value < 1:
        raise ConfigError(f"{flag} is {value}, but must be 1 or more")
