"""Number formatting for people: enough digits to tell compared numbers apart.

Next to a target of 0.7, a score of 0.697 is written as 0.697, not as 0.7. A mean is written to two
significant digits of its standard error, and so is its interval.
"""

import math
from collections.abc import Callable, Iterable

__all__ = ["as_given", "number", "numbers", "short", "with_error", "with_interval"]

LEAST = 4
"""Significant digits by default."""
MOST = 9
"""Maximum number of significant digits; smaller differences count as rounding errors."""
ERROR_DIGITS = 2
"""Significant digits of a standard error."""
PLAIN = (1e-4, 1e9)
"""Range of magnitudes that are written without an exponent."""
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_SHORTEST = 3
"""Significant digits of a shortened number."""


def number(value: float, *against: float) -> str:
    """One number: whole numbers in full, others with at least four digits.

    Args:
        value: the number.
        against: numbers that the reader compares it with, written by `as_given`.
    """
    return numbers(value, against=against)[0]


def numbers(
    *values: float, error: float | None = None, against: tuple[float, ...] = ()
) -> tuple[str, ...]:
    """Numbers that are read together, all with the same number of decimals.

    Args:
        values: the numbers.
        error: their standard error, which determines how many decimals are meaningful.
        against: other numbers that the reader compares them with, written by `as_given`.

    Returns:
        A text for each value. Different values get different texts, and their order among each
        other and relative to ``against`` is kept, up to nine significant digits.
    """
    finite = [one for one in values if math.isfinite(one)]
    scale = max(map(abs, finite), default=0.0)
    if scale and not PLAIN[0] <= scale < PLAIN[1]:
        return _first_apart(_scientific, range(LEAST - 1, MOST), values, against)
    return _first_apart(_plain, range(*_decimals(finite, scale, error)), values, against)


def with_error(mean: float, error: float | None, *against: float) -> str:
    """A mean with its standard error, ``0.697 ± 0.014``.

    Args:
        mean: the mean.
        error: its standard error; None or NaN (a single episode has none) is left out.
        against: numbers that the reader compares the mean with.
    """
    if error is None or not math.isfinite(error):
        return number(mean, *against)
    return _beside(numbers(mean, error=error, against=against)[0], error)


def with_interval(
    mean: float, error: float, low: float, high: float, *against: float
) -> tuple[str, str, str]:
    """A mean with its standard error, and the ends of its interval, with equally many decimals.

    Args:
        mean: the mean.
        error: its standard error.
        low: lower end of the mean's interval.
        high: upper end of the mean's interval.
        against: numbers that the reader compares them with.
    """
    texts = numbers(mean, low, high, error=error, against=against)
    return _beside(texts[0], error), texts[1], texts[2]


def as_given(value: float) -> str:
    """A number that a person has set, such as a target: 475, 0.7, -0.01."""
    scale = abs(value)
    if scale and not PLAIN[0] <= scale < PLAIN[1]:
        return f"{value:.{MOST}g}"
    text = _plain(value, MOST)
    return text.rstrip("0").rstrip(".") if "." in text else text


def short(value: float, *against: float) -> str:
    """A number in few characters: 950, 12.3k, 1.2M, -0.0123."""
    size = abs(value)
    if size >= 1e12 or 0.0 < size < 1e-3:
        return f"{value:.1e}"
    # A number that would round to 1000 of a unit is written as 1 of the next unit.
    unit, letter = next((one for one in _UNITS if size >= 0.9995 * one[0]), (1.0, ""))
    shrunk = tuple(one / unit for one in against)
    digits = range(_SHORTEST if letter else LEAST, MOST + 1)
    return _first_apart(_general, digits, (value / unit,), shrunk)[0] + letter


def _beside(mean: str, error: float) -> str:
    """A mean and its standard error, with equally many decimals."""
    if "e" in mean:
        return f"{mean} ± {error:.{ERROR_DIGITS - 1}e}"
    return f"{mean} ± {_plain(error, len(mean.partition('.')[2]))}"


def _decimals(values: list[float], scale: float, error: float | None) -> tuple[int, int]:
    """Range of decimals to try: the first number, and one more than the last."""
    before = 1 + math.floor(math.log10(scale)) if scale else 1
    most = max(0, MOST - before)
    noise = scale / 10**MOST
    if error is not None and noise < error < math.inf:
        wanted = ERROR_DIGITS - 1 - math.floor(math.log10(error))
    elif all(abs(one - round(one)) <= noise for one in values):
        wanted = 0
    else:
        wanted = LEAST - before
    return min(max(0, wanted), most), most + 1


def _first_apart(
    write: Callable[[float, int], str],
    digits: Iterable[int],
    values: tuple[float, ...],
    against: tuple[float, ...],
) -> tuple[str, ...]:
    """The values with the fewest of the given digits that keep their order, else with the most."""
    texts: tuple[str, ...] = ()
    for count in digits:
        texts = tuple(write(one, count) for one in values)
        read = [float(text.replace(",", "")) for text in texts]
        true, seen = [*values, *against], [*read, *against]
        pairs = [(one, other) for one in range(len(values)) for other in range(len(true))]
        if all(
            _order(true[one], true[other]) == _order(seen[one], seen[other]) for one, other in pairs
        ):
            break
    return texts


def _order(one: float, other: float) -> int:
    if math.isclose(one, other, rel_tol=10.0**-MOST):
        return 0
    return (one > other) - (one < other)


def _scientific(value: float, decimals: int) -> str:
    return f"{value:.{decimals}e}"


def _general(value: float, digits: int) -> str:
    return f"{value:.{digits}g}"


def _plain(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}" if abs(value) >= 10_000 else f"{value:.{decimals}f}"
    # Never write "-0".
    return text.removeprefix("-") if not float(text.replace(",", "")) else text
