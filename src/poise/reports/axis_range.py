"""How far the axes of a learning curve reach, and how their ticks are labelled.

A return far from all others would flatten the rest: what lies far beyond the bulk is left out of
the axis, and counted.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

__all__ = ["amount", "moving_mean", "return_range", "tick_labels"]

WINDOW = 100
COLUMNS = 200
"""Parts of equal width that the axis of steps is looked at in: every part of a run counts alike,
however many episodes ended in it."""
FEW_COLUMNS = 20
"""With fewer, none of them is taken for an exception."""
EXCEPTIONS = 0.05
"""Share of the columns, at either end, that do not count among the bulk."""
UNTYPICAL_MEANS = 0.35
"""The same of the moving means, on which one return leaves its mark for a hundred episodes."""
LOWEST_IN_COLUMN = 0.05
"""Quantile that stands for the low returns of a column. For the high ones its largest does: success
is rare at first, and must be seen."""
LOW_EVALUATIONS = 0.25
"""Share of the evaluations that may be left out below. The best one never is."""
REACH = 1.0
"""What is farther from the bulk than this many times its height is left out: the bulk gets half of
the axis, or a third where returns are left out on both sides."""
MARGIN = 0.04
"""Of the axis, beyond what is shown."""
ALIKE = 1e-9
"""Of two numbers, the difference in proportion to them that does not count."""
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
WITH_UNITS = 1e4
"""Size from which on the ticks of an axis have units."""
LARGE, SMALL = 1e15, 1e-4
"""Sizes from which on a tick is written with a power of ten."""
MOST_DECIMALS = 2
"""Before a unit; ticks that are closer together have a smaller one, or none."""
DIGITS = 9
"""Of an amount, at most."""


def moving_mean(returns: np.ndarray) -> np.ndarray:
    """The mean of the last 100 of ``[E]`` returns (of fewer, at the beginning)."""
    sums = np.cumsum(np.concatenate([[0.0], returns]))
    ends = np.arange(1, len(returns) + 1)
    begins = np.maximum(ends - WINDOW, 0)
    means: np.ndarray = (sums[ends] - sums[begins]) / (ends - begins)
    return means


def return_range(
    steps: np.ndarray,
    returns: np.ndarray,
    evaluated: np.ndarray,
    always: Sequence[float] = (),
    perhaps: Sequence[float] = (),
) -> tuple[float, float]:
    """The lower and the upper end of the axis of returns.

    The bulk is where most of the run went on: the returns in most columns, their usual moving
    means, the better evaluations, and what must be seen. All that is within reach of it is shown.

    Args:
        steps: ``[E]``, when the training episodes ended.
        returns: ``[E]``, what they returned, finite.
        evaluated: ``[K]``, means of the evaluations, finite.
        always: what must be seen.
        perhaps: what is shown if it is within reach.
    """
    means = moving_mean(returns)
    everything = np.concatenate([returns, means, evaluated, always, perhaps])
    if not len(everything):
        return 0.0, 1.0
    core = [*always]
    if len(evaluated):
        core += [np.quantile(evaluated, LOW_EVALUATIONS, method="higher"), np.max(evaluated)]
    if len(returns):
        core += _bulk(steps, returns, means)
    low, high = (float(min(core)), float(max(core))) if core else (0.0, 0.0)
    reach = REACH * (high - low)
    if not _alike(low, high):
        shown = everything[(everything >= low - reach) & (everything <= high + reach)]
    else:
        shown = everything
    low, high = float(np.min(shown)), float(np.max(shown))
    margin = (0.1 * abs(high) or 1.0) if _alike(low, high) else MARGIN * (high - low)
    return low - margin, high + margin


def _alike(low: float, high: float) -> bool:
    """Whether two returns differ by no more than what adding up may cost."""
    return high - low <= ALIKE * max(abs(low), abs(high))


def _bulk(steps: np.ndarray, returns: np.ndarray, means: np.ndarray) -> list[float]:
    """The ends of what most columns hold."""
    last = max(float(np.max(steps)), 1.0)
    columns = np.minimum(COLUMNS * (steps / last), COLUMNS - 1).astype(int)
    order = np.argsort(columns, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(columns[order])) + 1)
    lows = np.sort([np.quantile(returns[group], LOWEST_IN_COLUMN) for group in groups])
    highs = np.sort([np.max(returns[group]) for group in groups])
    middles = np.sort([means[group[-1]] for group in groups])
    count = len(groups)
    few = count < FEW_COLUMNS
    outer = 0 if few else math.ceil(EXCEPTIONS * (count - 1))
    inner = 0 if few else math.ceil(UNTYPICAL_MEANS * (count - 1))
    return [lows[outer], highs[-1 - outer], middles[inner], middles[-1 - inner]]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Labels that tell the ticks of one axis apart, each complete in itself: 500; 20k; 1.5M."""
    values = [float(tick) for tick in ticks]
    largest = max((abs(value) for value in values), default=0.0)
    gaps = [abs(two - one) for one, two in itertools.pairwise(values) if two != one]
    gap = min(gaps, default=largest or 1.0)
    if not SMALL <= largest < LARGE:
        digits = min(17, 2 + math.ceil(math.log10(largest / gap))) if largest else 1
        return [_with_minus(f"{value:.{digits}g}") for value in values]
    units = UNITS if largest >= WITH_UNITS else ()
    return [_with_minus(_tick(value, gap, units)) for value in values]


def _tick(value: float, gap: float, units: Sequence[tuple[float, str]]) -> str:
    if abs(value) < gap / 2:
        return "0"
    for unit, letter in units:
        decimals = _decimals(gap / unit)
        if abs(value) >= unit and decimals <= MOST_DECIMALS:
            # Of 0.5M, 1M and 1.5M, none is 1.0M.
            text = f"{value / unit:.{decimals}f}"
            return (text.rstrip("0").rstrip(".") if decimals else text) + letter
    return f"{value:,.{_decimals(gap)}f}"


def _decimals(gap: float) -> int:
    """Decimals that tell numbers so far apart from each other; of 0.25, two."""
    decimals = least = max(0, -math.floor(math.log10(gap) + 1e-9))
    while decimals < least + MOST_DECIMALS and abs(round(gap, decimals) - gap) > ALIKE * gap:
        decimals += 1
    return decimals


def amount(value: float, height: float, apart_from: float | None = None) -> str:
    """A return as it can be read off an axis: to a thousandth of its height, about.

    Args:
        value: the return.
        height: of the axis.
        apart_from: a number that it must not read the same as, unless it is the same.
    """
    if value and not SMALL <= abs(value) < LARGE:
        return _with_minus(f"{value:.4g}")
    decimals = max(0, 3 - math.floor(math.log10(height))) if height > 0.0 else 3
    whole = len(f"{abs(value):.0f}")
    decimals = min(decimals, max(0, DIGITS - whole))
    if apart_from is not None and value != apart_from:
        while decimals < 15 - whole and round(value, decimals) == round(apart_from, decimals):
            decimals += 1
    text = f"{value:,.{decimals}f}"
    if decimals and round(value, decimals) == value:
        text = text.rstrip("0").rstrip(".")
    return _with_minus(text)


def _with_minus(text: str) -> str:
    """With the sign that is as wide as a digit; no number is "-0"."""
    if text.startswith("-") and not text.strip("-0.,"):
        text = text[1:]
    return text.replace("-", "\N{MINUS SIGN}")
