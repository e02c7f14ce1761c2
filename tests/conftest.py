"""Strictness for every test; after Equinox's ``tests/conftest.py``.

Shapes and dtypes of arrays are checked, ranks are never promoted silently, a NaN raises, and
nothing is left in the user's caches.
"""

import gc
import math
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator

# Before anything is imported that looks for a cache. Processes that tests start inherit it, also
# those of pytest-xdist, so they share compiled programs.
_CACHE = None
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="poise-tests-")
    os.environ["XDG_CACHE_HOME"] = _CACHE.name
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = os.path.join(_CACHE.name, "hypothesis")

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402
from jax.experimental.compilation_cache import compilation_cache  # noqa: E402

from .shared_memory import allocations, holders  # noqa: E402
from .type_checks import check_types  # noqa: E402

# In a shell's background job these signals are ignored, but tests send them to themselves.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, usual)

# Tests compile thousands of small programs that run once; poise's own programs set other options.
QUICKLY = ["--xla_backend_optimization_level=0"]
if jax.__version_info__[:3] < (0, 11, 1):
    QUICKLY.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *QUICKLY]).strip()

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_nans", True)

# `config` is left out: it checks users' input itself, and tests expect its own errors.
CHECKED = (
    *("trajectory", "maths", "agent", "envs", "learning", "launchers", "storage", "evaluation"),
    *("observers", "reports", "training", "replaying", "bench", "doctor"),
)
PATIENCE = 120.0
"""Seconds that only a hanging test takes."""


check_types([f"poise.{room}" for room in CHECKED])

# Hypothesis depends neither on the clock nor on what earlier runs found.
hypothesis.settings.register_profile(
    "poise",
    deadline=None,
    database=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("poise")


def pytest_collection_finish() -> None:
    """Spare the garbage collector: what is imported and collected stays until the end.

    Looking through it again and again took a tenth of the suite's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> None:
    """Compile equal programs only once, in whatever order the tests run.

    poise sets up the same cache, but only if nothing has been computed before.
    """
    folder = os.path.join(os.environ["XDG_CACHE_HOME"], "poise", "xla")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session", autouse=True)
def compiled_quickly(pytestconfig: pytest.Config) -> Iterator[None]:
    """Compile the programs of runs with less effort, except in the slow tests, which run longer.

    Programs of a few steps take longer to compile than to run.
    """
    from poise.learning.compiler import compile_options
    from poise.training import assembly

    def options(backend: str) -> dict[str, object]:
        return compile_options(backend) | {"xla_backend_optimization_level": 0}

    with pytest.MonkeyPatch.context() as patch:
        if pytestconfig.option.markexpr == "not slow":
            patch.setattr(assembly, "compile_options", options)
        yield


@pytest.fixture(scope="session", autouse=True)
def patience() -> Iterator[None]:
    """Raise all time limits, so that no result depends on how slow the machine is.

    Tests of a deadline set their own.
    """
    from poise.doctor import random_play, seeding
    from poise.envs import object_walk, shared_state
    from poise.evaluation import episodes, supervision
    from poise.launchers import process_pool, serial, threads, worker_process
    from poise.training import closing, environment_check

    with pytest.MonkeyPatch.context() as patch:
        for module in (process_pool, serial, threads):
            patch.setattr(module, "LEAVE_SECONDS", PATIENCE)
        patch.setattr(worker_process, "EXIT_SECONDS", PATIENCE)
        patch.setattr(closing, "CLOSE_SECONDS", PATIENCE)
        patch.setattr(random_play, "SECONDS", PATIENCE)
        patch.setattr(seeding, "TRACE_SECONDS", PATIENCE)
        for search in (shared_state, object_walk):
            patch.setattr(search, "MOST_SECONDS", PATIENCE)
        # Every step and every copy counts as fast.
        patch.setattr(environment_check, "SLOW_STEP_SECONDS", math.inf)
        patch.setattr(episodes, "MAKING_SECONDS", math.inf)
        # Random play does not depend on training: a few episodes are enough.
        patch.setattr(supervision, "BASELINE_STEPS", 500)
        yield


@pytest.fixture(scope="module")
def shared_programs() -> Iterator[None]:
    """Runs and replays of the module share compiled programs, also with other such modules."""
    from .sharing import share_programs

    with pytest.MonkeyPatch.context() as patch:
        share_programs(patch)
        yield


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file stands for the curve of runs; drawing takes as long as the run itself."""
    from .sharing import draw_nothing

    draw_nothing(monkeypatch)


@pytest.fixture(autouse=True)
def no_process_and_no_shared_memory_is_left_behind() -> Iterator[None]:
    """Clean up after a test; asking for the children also reaps those that have ended."""
    asked = allocations()
    yield
    assert not multiprocessing.active_children()
    # Searching all processes is slow, so do it only if shared memory was allocated.
    assert asked == allocations() or not holders(os.getpid())


def pytest_unconfigure() -> None:
    if _CACHE is not None:
        _CACHE.cleanup()
