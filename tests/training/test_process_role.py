"""How long a process has run the command."""

import subprocess
import sys

WAITED = 2.0
AGE = "from poise.training.process_role import process_age; print(process_age())"
SHELL = f"""
import os, sys, time
from poise.training.process_role import process_age
time.sleep({WAITED})
print(process_age(), flush=True)
os.execv(sys.executable, [sys.executable, "-c", {AGE!r}])
"""


def test_what_a_shell_did_before_in_the_same_process_does_not_count() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHELL], capture_output=True, text=True, check=True, timeout=120
    )
    before, after = map(float, done.stdout.split())
    assert before >= WAITED
    # The age goes on counting processor time, not what was waited for.
    assert 0 < after < before
