"""Detection of scripts without a guard against worker processes that import them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CALL = "print(unguarded_script() is not None)"
NOBODY = 65534
GUARD = 'if __name__ == "__main__":'
IMPORT = "from poise.launchers.main_script import unguarded_script"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([CALL], "True"),
        ([f"def main():\n    {CALL}", "main()"], "True"),
        ([f"{GUARD}\n    {CALL}"], "False"),
        ([f"def main():\n    {CALL}", f"{GUARD}\n    main()"], "False"),
        ([f"if True:\n    {CALL}"], "True"),
    ],
)
def test_an_unguarded_script_is_detected(lines: list[str], expected: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("\n".join([IMPORT, *lines]))
    said = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True
    )
    assert said.stdout.strip() == expected


def test_code_without_a_file_is_not_imported_by_workers() -> None:
    said = subprocess.run(
        [sys.executable, "-c", f"{IMPORT}\n{CALL}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert said.stdout.strip() == "False"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_unreadable_script_counts_as_guarded(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    script = closed / "script.py"
    script.write_text(f"import os\n{IMPORT}\nos.seteuid({NOBODY})\n{CALL}")
    said = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True
    )
    assert said.stdout.strip() == "False"
