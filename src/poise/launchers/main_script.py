"""Check for a user's script that worker processes would run again when they import it."""

import ast
import sys
from pathlib import Path
from types import FrameType

__all__ = ["unguarded_script"]


def unguarded_script() -> FrameType | None:
    """Return the script's frame if this call would run again when the script is imported.

    Spawned processes import the main script under another name, so they skip only the code below
    ``if __name__ == "__main__":`` (see the programming guidelines of `multiprocessing`).
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        code = frame.f_code
        if code.co_name == "<module>" and frame.f_globals.get("__name__") == "__main__":
            is_guarded = _is_guarded(Path(code.co_filename), frame.f_lineno)
            return None if is_guarded else frame
        frame = frame.f_back
    return None


def _is_guarded(path: Path, line: int) -> bool:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        # Typed at a prompt, piped in, or in an inaccessible folder: not a script that could be
        # imported by its path.
        return True
    return any(
        isinstance(node, ast.If)
        and node.lineno <= line <= (node.end_lineno or node.lineno)
        and any(isinstance(it, ast.Name) and it.id == "__name__" for it in ast.walk(node.test))
        for node in tree.body
    )
