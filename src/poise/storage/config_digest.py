"""The seal of ``config.json``: a digest by which a change that was made by hand is noticed."""

import hashlib
import json
from pathlib import Path
from typing import Any

from poise.errors import FileFormatError
from poise.storage.files import read_json

__all__ = ["require_unchanged", "sealed"]

_SEAL = "sha256"


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a file with the digest of it, in place of an earlier one."""
    bare = {name: value for name, value in content.items() if name != _SEAL}
    return {**bare, _SEAL: _digest(bare)}


def require_unchanged(folder: Path) -> None:
    """Hold a run's settings against their digest; runs from before there was one have none.

    Raises:
        FileFormatError: they are not as the run had written them.
    """
    path = folder / "config.json"
    content = read_json(path)
    if _SEAL in content and content != sealed(content):
        raise FileFormatError(
            f"{path} was changed after the run had written it, but a run's settings are fixed: put "
            "it back as it was, or begin a new run with other settings (new budgets for this one "
            "are given to resume: --max-steps, --max-episodes, --max-seconds)"
        )


def _digest(content: dict[str, Any]) -> str:
    """SHA-256 of the values, however the file lays them out."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
