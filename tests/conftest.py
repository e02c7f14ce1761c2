"""Strictness for every test; after Equinox's ``tests/conftest.py``.

Shapes and dtypes are checked where arrays are, ranks are never promoted silently, a NaN raises, and
nothing is left behind in the user's caches.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Iterator

# Before anything is imported that looks for a cache; processes that tests start inherit it.
_CACHE = tempfile.TemporaryDirectory(prefix="poise-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = os.path.join(_CACHE.name, "hypothesis")

import hypothesis  # noqa: E402
import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

from .shared_memory import allocations, holders  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_nans", True)

# `config` is left out: it checks what users type itself, and tests want its own errors.
CHECKED = ("trajectory", "maths", "agent", "world", "learning", "launchers", "runs")
# The numeric tower of PEP 484: an int will do for a float.
BEARTYPE = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
jaxtyping.install_import_hook([f"poise.{room}" for room in CHECKED], BEARTYPE)

# No dependence on the clock or on what earlier runs found.
hypothesis.settings.register_profile(
    "poise", deadline=None, database=None, derandomize=True, max_examples=50
)
hypothesis.settings.load_profile("poise")


@pytest.fixture(autouse=True)
def no_process_and_no_shared_memory_is_left_behind() -> Iterator[None]:
    """Whatever a test did to them; asking for the children also reaps those that have ended."""
    asked = allocations()
    yield
    assert not multiprocessing.active_children()
    # To look at all processes takes its time: only where there was something to be held.
    assert asked == allocations() or not holders(os.getpid())


def pytest_unconfigure() -> None:
    _CACHE.cleanup()
