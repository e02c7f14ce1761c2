"""Whether this process runs the ``poise`` command; light, because every command imports it."""

__all__ = ["is_command", "run_as_command"]

_roles: list[str] = []


def run_as_command() -> None:
    """Say that this process runs nothing but the command, or a worker of its run."""
    _roles.append("command")


def is_command() -> bool:
    """Whether this process was started as the command, and not by somebody's script."""
    return bool(_roles)
