"""State that two copies of an environment share: what both reach, and stepping one of them changes.

Where nothing repeats, because an environment draws fresh entropy, comparing what copies show tells
nothing. So their objects are looked through: attributes, containers, closures, and the class
attributes and module globals that their code names. None of their code is run. What lies in a
library, or outside of Python, is not seen.
"""

import dis
import time
import types
from typing import Any

from poise.envs.object_contents import differ
from poise.envs.object_walk import Unit, Walk
from poise.envs.shared_objects import layers

__all__ = ["SharedThings"]

MOST_SECONDS = 20.0
"""Of processor time, for all comparisons together; what has not changed by then counts as state
that does not change."""


class SharedThings:
    """What two copies both reach, as it is now.

    Args:
        one: the copy that will be stepped.
        other: the copy that will not be.
    """

    def __init__(self, one: Any, other: Any) -> None:
        stops = {id(layer) for copy in (one, other) for layer in layers(copy)}
        first, second = Walk(one, stops), Walk(other, stops)
        self._codes = first.codes
        self._units = {
            key: unit
            for key, unit in first.units.items()
            if key in second.units
            # The other one finds it in a list of all that there are, perhaps.
            and not (key in first.private and key not in second.private)
        }
        self._before = {key: unit.content() for key, unit in self._units.items()}
        self._changed: set[str] = set()
        self._left = MOST_SECONDS

    def look(self) -> None:
        """Compare: after every step, for a number may come back to what it was."""
        if self._left <= 0:
            return
        began = time.thread_time()
        for key, unit in list(self._units.items()):
            before, after = self._before[key], unit.content()
            if not differ(before, after):
                continue
            if not self._is_episode_statistics(unit, before, after):
                self._changed.add(unit.label)
            del self._units[key]
        self._left -= time.thread_time() - began

    def changed(self) -> list[str]:
        """The names of those that are state and have changed, sorted."""
        return sorted(self._changed)

    def _is_episode_statistics(self, unit: Unit, before: Any, after: Any) -> bool:
        """Whether it is a number that is only added to, and never read."""
        numbers = {int, float}
        if unit.name in (None, "cell_contents") or not (type(before) is type(after) is tuple):
            return False
        if before[0] not in numbers or after[0] not in numbers:
            return False
        return not any(_reads(code, unit.name) for code in self._codes.values())


def _reads(code: types.CodeType, name: str) -> bool:
    """Whether code loads a name, other than to add to it and store it again."""
    if name not in code.co_names:
        return False
    lines = [one for one in dis.get_instructions(code) if one.opname != "CACHE"]
    for index, line in enumerate(lines):
        if line.argval != name or not line.opname.startswith("LOAD_"):
            continue
        if line.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            later = [at for at in range(index + 1, len(lines)) if lines[at].argval == name]
            store = later[0] if later else 0
            adds = store and lines[store].opname in ("STORE_GLOBAL", "STORE_NAME")
            if adds and lines[store - 1].opname == "BINARY_OP" and _in_place(lines[store - 1]):
                continue
        elif index and lines[index - 1].opname == "COPY":
            continue
        return True
    return False


def _in_place(line: dis.Instruction) -> bool:
    return line.argrepr.endswith("=")
