"""The range of a learning curve's return axis, and the labels of its ticks.

A single return far from all others would flatten the curve. Such outliers are left out of the axis,
and counted.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

__all__ = ["amount", "moving_mean", "return_range", "tick_labels"]

WINDOW = 100
COLUMNS = 200
"""The step axis is divided into this many columns of equal width, so that every part of a run has
equal weight, however many episodes ended in it."""
FEW_COLUMNS = 20
"""With fewer columns than this, none is treated as an exception."""
EXCEPTIONS = 0.05
"""Share of the columns, at either end, that is excluded from the bulk."""
UNTYPICAL_MEANS = 0.35
"""The same share for moving means, which one unusual return affects for a hundred episodes."""
LOWEST_IN_COLUMN = 0.05
"""Quantile that represents the low returns of a column. Its maximum represents the high returns:
success is rare at first, and must be visible."""
LOW_EVALUATIONS = 0.25
"""Share of the evaluations that may fall below the axis. The best evaluation never does."""
REACH = 1.0
"""Values farther from the bulk than this many times the bulk's height are left out. The bulk gets
half of the axis, or a third if values are left out on both sides."""
MARGIN = 0.04
"""Margin at either end, as a share of the range that is shown."""
ALIKE = 1e-9
"""Relative difference below which two numbers count as equal."""
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
WITH_UNITS = 1e4
"""Ticks of an axis get units if the largest is at least this."""
LARGE, SMALL = 1e15, 1e-4
"""Values outside of this range are written with an exponent."""
MOST_DECIMALS = 2
"""Maximum number of decimals before a unit; closer ticks get a smaller unit, or none."""
DIGITS = 9
"""Maximum number of digits of a return in the legend."""


def moving_mean(returns: np.ndarray) -> np.ndarray:
    """The mean of the last 100 of ``[E]`` returns at each episode (of fewer at the beginning)."""
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
    """The lower and the upper end of the return axis.

    The bulk is the range of most of the run: the returns in most columns, typical moving means, the
    better evaluations, and the values that must be visible. Values within `REACH` of the bulk are
    shown too.

    Args:
        steps: ``[E]``, environment steps when each training episode ended.
        returns: ``[E]``, returns of the training episodes, finite.
        evaluated: ``[K]``, means of the evaluations, finite.
        always: values that must be visible.
        perhaps: values that are shown if they are within reach of the bulk.
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
    """Whether two returns differ by no more than rounding errors of a sum."""
    return high - low <= ALIKE * max(abs(low), abs(high))


def _bulk(steps: np.ndarray, returns: np.ndarray, means: np.ndarray) -> list[float]:
    """The ends of the range of returns and moving means in most columns."""
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
    """Labels that distinguish the ticks of one axis, each a complete number: 500; 20k; 1.5M."""
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
            # Write 1M, not 1.0M, next to 0.5M and 1.5M.
            text = f"{value / unit:.{decimals}f}"
            return (text.rstrip("0").rstrip(".") if decimals else text) + letter
    return f"{value:,.{_decimals(gap)}f}"


def _decimals(gap: float) -> int:
    """Decimals needed to write numbers that differ by ``gap``; two for 0.25."""
    decimals = least = max(0, -math.floor(math.log10(gap) + 1e-9))
    while decimals < least + MOST_DECIMALS and abs(round(gap, decimals) - gap) > ALIKE * gap:
        decimals += 1
    return decimals


def amount(value: float, height: float, apart_from: float | None = None) -> str:
    """A return, with about the precision of the axis: a thousandth of its height.

    Args:
        value: the return.
        height: height of the axis.
        apart_from: a number whose text must differ, unless the numbers are equal.
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
    """Use the minus sign that is as wide as a digit, and never write "-0"."""
    if text.startswith("-") and not text.strip("-0.,"):
        text = text[1:]
    return text.replace("-", "\N{MINUS SIGN}")
