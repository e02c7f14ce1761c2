"""The return axis shows the bulk of a run, and its ticks are readable."""

import itertools

import numpy as np
import pytest

from poise.reports.axis_range import WINDOW, amount, moving_mean, return_range, tick_labels

STEPS = 100.0 * np.arange(1, 1001)
NONE = np.zeros(0)
MINUS = "\N{MINUS SIGN}"


def test_an_early_outlier_does_not_flatten_the_rest() -> None:
    returns = -13.0 - np.random.default_rng(0).random(1000) * 10
    returns[:3] = -100_000.0, -99_000.0, -5_000.0
    low, high = return_range(STEPS, returns, NONE)
    assert -34 < low < -22
    assert -13 < high < -12


def test_nor_does_a_late_one_at_the_top() -> None:
    returns = np.random.default_rng(0).random(1000)
    returns[700] = 1e6
    low, high = return_range(STEPS, returns, NONE)
    assert low > -0.1
    assert high < 1.1


@pytest.mark.parametrize(
    "returns",
    [
        np.linspace(10.0, 500.0, 1000),
        np.geomspace(10.0, 500.0, 1000),
        -np.geomspace(1000.0, 10.0, 1000),
        np.random.default_rng(0).normal(0.0, 1.0, 1000).clip(-3, 3),
        (np.random.default_rng(0).random(1000) < 0.1).astype(float),
    ],
    ids=["line", "slow start", "fast start", "noise", "rare success"],
)
def test_what_is_usual_is_shown_whole(returns: np.ndarray) -> None:
    low, high = return_range(STEPS, returns, NONE)
    assert low < np.min(returns)
    assert high > np.max(returns)


def test_a_part_of_the_run_counts_however_few_episodes_ended_in_it() -> None:
    """Early episodes are a thousand times as long: few episodes, but half of the run's steps."""
    steps = np.concatenate([1e4 * np.arange(1, 51), 5e5 + 10.0 * np.arange(1, 50_001)])
    returns = np.concatenate([np.full(50, -1000.0), np.full(50_000, -13.0)])
    low, _ = return_range(steps, returns, NONE)
    assert low < -1000


def test_of_few_episodes_none_is_an_exception() -> None:
    low, high = return_range(STEPS[:5], np.array([1.0, 2.0, 3.0, 4.0, 100.0]), NONE)
    assert low < 1
    assert high > 100


def test_a_mean_that_outliers_pull_away_all_the_time_is_shown() -> None:
    returns = np.full(1000, -10.0)
    returns[::50] = -1000.0
    low, _ = return_range(STEPS, returns, NONE)
    assert low < np.median(moving_mean(returns)) < -20


def test_the_best_evaluations_are_shown_and_a_bad_one_is_not() -> None:
    returns = np.random.default_rng(0).random(1000)
    evaluated = np.array([-10_000.0, 40.0, 50.0, 45.0, 60.0])
    low, high = return_range(STEPS, returns, evaluated)
    assert -100 < low < 0
    assert high > 60
    mostly = np.array([-10_000.0, -10_000.0, 50.0, -10_000.0])
    assert return_range(STEPS, returns, mostly)[0] < -10_000


def test_what_must_be_seen_is_and_what_may_only_within_reach() -> None:
    returns = np.random.default_rng(0).random(1000)
    low, high = return_range(STEPS, returns, NONE, always=[500.0], perhaps=[-400.0, 1e6])
    assert 500 < high < 600
    assert -500 < low < -400
    assert return_range(STEPS, returns, NONE, perhaps=[-400.0])[0] > -1


@pytest.mark.parametrize("value", [0.0, -200.0, 1e-7, 1e299, -1e299])
def test_returns_that_are_all_alike_have_an_axis_around_them(value: float) -> None:
    low, high = return_range(STEPS, np.full(1000, value), NONE)
    assert low < value < high
    assert np.isfinite([low, high]).all()
    # There is no bulk that something else could flatten.
    assert return_range(STEPS, np.full(1000, value), NONE, perhaps=[value + 5])[1] >= value + 5


def test_no_episodes() -> None:
    assert return_range(NONE, NONE, NONE) == (0.0, 1.0)
    low, high = return_range(NONE, NONE, NONE, always=[475.0])
    assert low < 475 < high
    low, high = return_range(np.zeros(1), np.array([3.0]), NONE)
    assert low < 3 < high


def test_the_moving_mean_is_that_of_the_last_hundred() -> None:
    returns = np.random.default_rng(0).normal(size=250)
    slow = [np.mean(returns[max(0, end - WINDOW) : end]) for end in range(1, 251)]
    np.testing.assert_allclose(moving_mean(returns), slow, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ([0, 100, 200, 300], ["0", "100", "200", "300"]),
        ([0, 2_000, 4_000], ["0", "2,000", "4,000"]),
        ([0, 5_000, 10_000, 15_000, 20_000], ["0", "5k", "10k", "15k", "20k"]),
        ([0, 500_000, 1_000_000, 1_500_000], ["0", "500k", "1M", "1.5M"]),
        ([0, 1e6, 2e6], ["0", "1M", "2M"]),
        ([0, 1.25e9, 2.5e9, 1e10], ["0", "1.25G", "2.5G", "10G"]),
        ([-1500, -1000, -500, 0], ["-1,500", "-1,000", "-500", "0"]),
        ([-100_000, -50_000, 0], ["-100k", "-50k", "0"]),
        ([0.0, 0.2, 0.4], ["0", "0.2", "0.4"]),
        ([0.0, 0.25, 0.5, 1.0], ["0", "0.25", "0.50", "1.00"]),
        ([-0.002, -0.001, 0.0], ["-0.002", "-0.001", "0"]),
        ([1_000_000.0, 1_000_000.2], ["1,000,000.0", "1,000,000.2"]),
        ([0, 1e-7, 2e-7], ["0", "1e-07", "2e-07"]),
        ([1e20, 2e20], ["1e+20", "2e+20"]),
        ([0.0], ["0"]),
        ([], []),
    ],
)
def test_ticks(ticks: list[float], labels: list[str]) -> None:
    assert tick_labels(ticks) == [label.replace("-", MINUS) for label in labels]


@pytest.mark.parametrize("first", [0.0, -3.0, 1.0, 997.0])
def test_two_ticks_never_read_the_same(first: float) -> None:
    for scale, step in itertools.product(10.0 ** np.arange(-12, 20), (1.0, 2.0, 2.5, 5.0)):
        ticks = (scale * (first + step * np.arange(6))).tolist()
        labels = tick_labels(ticks)
        assert len(set(labels)) == 6, labels


@pytest.mark.parametrize(
    ("value", "height", "text"),
    [
        (500.0, 520.0, "500"),
        (21.34, 520.0, "21.3"),
        (-218.2561, 1900.0, "-218"),
        (0.69, 1.04, "0.69"),
        (0.7333, 1.04, "0.733"),
        (0.000866, 0.001, "0.000866"),
        (-106_426.0, 7.0, "-106,426"),
        (866_164.2, 1e6, "866,164"),
        (-0.0001, 520.0, "0.0"),
        (0.0, 0.0, "0"),
        (1e20, 1e20, "1e+20"),
    ],
)
def test_amounts(value: float, height: float, text: str) -> None:
    assert amount(value, height) == text.replace("-", MINUS)


def test_what_misses_the_target_does_not_read_as_if_it_had_reached_it() -> None:
    assert amount(474.98, 520.0) == "475.0"
    assert amount(474.98, 520.0, apart_from=475.0) == "474.98"
    assert amount(475.0, 520.0, apart_from=475.0) == "475"
