"""The seal of ``config.json``: a digest that reveals changes made by hand."""

import hashlib
import json
from pathlib import Path
from typing import Any

from poise.errors import FileFormatError
from poise.storage.files import read_json

__all__ = ["require_unchanged", "sealed"]

_SEAL = "sha256"


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Return a file's content with its digest, which replaces an earlier one."""
    bare = {name: value for name, value in content.items() if name != _SEAL}
    return {**bare, _SEAL: _digest(bare)}


def require_unchanged(folder: Path) -> None:
    """Check a run's settings against their digest; older runs have none, and are accepted.

    Raises:
        FileFormatError: the settings were changed after the run had written them.
    """
    path = folder / "config.json"
    content = read_json(path)
    if _SEAL in content and content != sealed(content):
        raise FileFormatError(
            f"{path} was changed after the run had written it, but a run's settings are fixed: "
            "restore it, or begin a new run with other settings (new budgets for this run "
            "are given to resume: --max-steps, --max-episodes, --max-seconds)"
        )


def _digest(content: dict[str, Any]) -> str:
    """SHA-256 of the values, independent of the file's layout."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
