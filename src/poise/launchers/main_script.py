"""The user's script: where worker processes, which import it, would begin to run it again."""

import ast
import sys
from pathlib import Path
from types import FrameType

__all__ = ["unguarded_script"]


def unguarded_script() -> FrameType | None:
    """The script's frame, if it calls this from a line that an import of it would run as well.

    Spawned processes import the main script under another name, so only what stands below
    ``if __name__ == "__main__":`` is left out there (see the guidelines of `multiprocessing`).
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        code = frame.f_code
        if code.co_name == "<module>" and frame.f_globals.get("__name__") == "__main__":
            # With -m, and without a file, it is not imported by its path.
            path = Path(code.co_filename)
            is_unguarded = path.is_file() and not _is_guarded(path, frame.f_lineno)
            return frame if is_unguarded else None
        frame = frame.f_back
    return None


def _is_guarded(path: Path, line: int) -> bool:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        # Not a script that can be read: the processes will tell.
        return True
    return any(
        isinstance(node, ast.If)
        and node.lineno <= line <= (node.end_lineno or node.lineno)
        and any(isinstance(it, ast.Name) and it.id == "__name__" for it in ast.walk(node.test))
        for node in tree.body
    )
