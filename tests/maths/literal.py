"""Slow, literal transcriptions of the papers in float64, with a loop per sum, for comparison.

Episode boundaries are found first, and each segment is then treated like an episode in the paper;
there are no masks and no discounts of 0.
"""

import numpy as np

Segment = tuple[int, int, bool]
"""First step, step after the last, and whether the last step terminated its episode."""


def segments(terminated: np.ndarray, truncated: np.ndarray, valid: np.ndarray) -> list[Segment]:
    """Split a trajectory into parts of one episode each; invalid steps are in none."""
    found, begin = [], None
    for t in range(len(valid)):
        if not valid[t]:
            continue
        if begin is None:
            begin = t
        if terminated[t] or truncated[t] or t == len(valid) - 1:
            found.append((begin, t + 1, bool(terminated[t])))
            begin = None
    return found


def n_step_returns(
    values: np.ndarray, rewards: np.ndarray, parts: list[Segment], gamma: float
) -> np.ndarray:
    """Mnih et al. 2016, Algorithm S3: ``R = 0 or V(s_t)``, then ``R <- r_i + gamma R``."""
    returns = np.array(values[:-1], np.float64)
    for begin, end, is_terminal in parts:
        total = 0.0 if is_terminal else float(values[end])
        for i in range(end - 1, begin - 1, -1):
            total = float(rewards[i]) + gamma * total
            returns[i] = total
    return returns


def generalised_advantages(
    values: np.ndarray,
    rewards: np.ndarray,
    parts: list[Segment],
    gamma: float,
    lam: float,
) -> np.ndarray:
    """Schulman et al. 2015, equation 16: ``A_t = sum_l (gamma lambda)^l delta_{t+l}``."""
    advantages = np.zeros(len(rewards))
    for begin, end, is_terminal in parts:
        for t in range(begin, end):
            for step in range(t, end):
                last = step == end - 1
                following = 0.0 if last and is_terminal else float(values[step + 1])
                delta = float(rewards[step]) + gamma * following - float(values[step])
                advantages[t] += (gamma * lam) ** (step - t) * delta
    return advantages


def returns_so_far(rewards: np.ndarray, parts: list[Segment], gamma: float) -> np.ndarray:
    """VecNormalize: ``returns = returns * gamma + reward``, and 0 after an episode's end."""
    returns = np.zeros(len(rewards))
    for begin, end, _ in parts:
        for t in range(begin, end):
            returns[t] = sum(gamma ** (t - i) * float(rewards[i]) for i in range(begin, t + 1))
    return returns


def v_trace_targets(
    values: np.ndarray,
    rewards: np.ndarray,
    parts: list[Segment],
    gamma: float,
    ratios: np.ndarray,
    rho_bar: float,
    c_bar: float,
) -> np.ndarray:
    """Espeholt et al. 2018, equation 1, with the values of invalid steps as their targets.

    ``v_s = V(x_s) + sum_{t=s}^{s+n-1} gamma^{t-s} (prod_{i=s}^{t-1} c_i) delta_t V`` with
    ``delta_t V = rho_t (r_t + gamma V(x_{t+1}) - V(x_t))``.
    """
    targets = np.array(values[:-1], np.float64)
    for begin, end, is_terminal in parts:
        for s in range(begin, end):
            for t in range(s, end):
                product = 1.0
                for i in range(s, t):
                    product *= min(c_bar, float(ratios[i]))
                last = t == end - 1
                following = 0.0 if last and is_terminal else float(values[t + 1])
                difference = float(rewards[t]) + gamma * following - float(values[t])
                delta = min(rho_bar, float(ratios[t])) * difference
                targets[s] += gamma ** (t - s) * product * delta
    return targets


def v_trace_advantages(
    values: np.ndarray,
    rewards: np.ndarray,
    parts: list[Segment],
    gamma: float,
    targets: np.ndarray,
) -> np.ndarray:
    """Espeholt et al. 2018, section 4.2: ``r_s + gamma v_{s+1} - V(x_s)``.

    ``v`` of a segment's end is 0 or, if it did not terminate, the value there.
    """
    advantages = np.zeros(len(rewards))
    for begin, end, is_terminal in parts:
        for s in range(begin, end):
            following = float(targets[s + 1]) if s < end - 1 else float(values[end])
            if s == end - 1 and is_terminal:
                following = 0.0
            advantages[s] = float(rewards[s]) + gamma * following - float(values[s])
    return advantages


def one_step_targets(
    following: np.ndarray, rewards: np.ndarray, parts: list[Segment], gamma: float
) -> np.ndarray:
    """Mnih et al. 2016, Algorithm 1: ``y = r`` or ``y = r + gamma Q(s', a'; theta^-)``.

    ``following[t]`` is the target network's value of what follows step t.
    """
    targets = np.zeros(len(rewards))
    for begin, end, is_terminal in parts:
        for t in range(begin, end):
            last = t == end - 1 and is_terminal
            targets[t] = float(rewards[t]) + (0.0 if last else gamma * float(following[t]))
    return targets
