"""Number formatting: different values are written differently."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.number_format import as_given, number, numbers, short, with_error, with_interval


@pytest.mark.parametrize(
    ("value", "against", "text"),
    [
        (0.0, (), "0"),
        (-0.0, (), "0"),
        (-200.0, (-110.0,), "-200"),
        (475.0, (475.0,), "475"),
        (22.34567, (475.0,), "22.35"),
        (0.71, (0.7,), "0.7100"),
        (0.699996, (0.7,), "0.699996"),
        (0.95, (0.9,), "0.9500"),
        (474.96, (475.0,), "474.96"),
        (-1580.25, (), "-1580"),
        (-100_000.0, (), "-100,000"),
        (123_456.7, (475.0,), "123,457"),
        (0.00123456, (), "0.001235"),
        (sum([0.1] * 10), (), "1"),
        (0.1 + 0.2, (0.3,), "0.3000"),
        (1.23456e-7, (), "1.235e-07"),
        (1.23456e12, (), "1.235e+12"),
        (math.nan, (1.0,), "nan"),
        (-math.inf, (1.0,), "-inf"),
    ],
)
def test_one_number(value: float, against: tuple[float, ...], text: str) -> None:
    assert number(value, *against) == text


@pytest.mark.parametrize(
    ("mean", "error", "against", "text"),
    [
        (0.7234, 0.01422, (0.7,), "0.723 ± 0.014"),
        (0.6996, 0.0142, (0.7,), "0.6996 ± 0.0142"),
        (487.31, 1.234, (475.0,), "487.3 ± 1.2"),
        (487.31, 12.34, (475.0,), "487 ± 12"),
        (-23_456.0, 456.0, (), "-23,456 ± 456"),
        (-200.0, 0.0, (-110.0,), "-200 ± 0"),
        (sum([0.1] * 10), 1e-17, (1.0,), "1 ± 0"),
        (9.5, math.nan, (), "9.500"),
        (9.5, None, (), "9.500"),
        (3e-7, 1.26e-8, (), "3.000e-07 ± 1.3e-08"),
    ],
)
def test_a_mean_with_its_error(
    mean: float, error: float | None, against: tuple[float, ...], text: str
) -> None:
    assert with_error(mean, error, *against) == text


def test_an_interval_has_the_decimals_of_its_error() -> None:
    assert numbers(0.7234, 0.6951, 0.7517, error=0.0142) == ("0.723", "0.695", "0.752")
    told = with_interval(0.7234, 0.0142, 0.69996, 0.7517, 0.7)
    assert told == ("0.72340 ± 0.01420", "0.69996", "0.75170")


@pytest.mark.parametrize(
    ("value", "text"),
    [(475.0, "475"), (0.7, "0.7"), (-110.0, "-110"), (1e5, "100,000"), (90.5, "90.5"), (0.0, "0")],
)
def test_a_target_is_written_as_it_was_given(value: float, text: str) -> None:
    assert as_given(value) == text


@pytest.mark.parametrize(
    ("value", "against", "text"),
    [
        (950.0, (), "950"),
        (12_345.0, (), "12.3k"),
        (1.2e6, (), "1.2M"),
        (999_999.0, (), "1M"),
        (999_999.0, (1e6,), "0.999999M"),
        (999.7, (), "1k"),
        (-0.0123, (), "-0.0123"),
        (3.2e-7, (), "3.2e-07"),
    ],
)
def test_a_short_number(value: float, against: tuple[float, ...], text: str) -> None:
    assert short(value, *against) == text


RETURNS = st.floats(-1e8, 1e8).map(lambda value: float(f"{value:.6g}"))


@given(RETURNS, RETURNS, st.one_of(st.none(), st.floats(0.0, 1e4)))
def test_a_score_is_never_written_on_the_other_side_of_its_target(
    score: float, target: float, error: float | None
) -> None:
    """For numbers with six digits, the written score is below the target if the score is."""
    text = with_error(score, error, target).partition(" ")[0].replace(",", "")
    if max(abs(score), abs(target)) < 1e3 * max(1e-3, min(abs(score), abs(target))):
        assert (float(text) < target) == (score < target)
        assert (float(text) > target) == (score > target)


@given(st.lists(RETURNS, min_size=2, max_size=4))
def test_numbers_that_differ_are_written_differently(values: list[float]) -> None:
    scale = max(map(abs, values))
    texts = numbers(*values)
    for one, text in zip(values, texts, strict=True):
        for other, another in zip(values, texts, strict=True):
            if abs(one - other) > 1e-7 * scale:
                assert (text == another) == (one == other)
