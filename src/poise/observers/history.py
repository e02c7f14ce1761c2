"""History of a run in a few hundred points, however long the run is; used for its findings."""

from typing import NamedTuple

from poise.learning.events import EpisodeFinished, Evaluated, Event, Updated

__all__ = ["Curve", "History", "Point"]

MOST_POINTS = 256
"""Maximum number of points of each curve; when it is reached, every second one is dropped."""


class Point(NamedTuple):
    """A value, and the number of environment steps before it."""

    steps: int
    value: float


class Curve:
    """Values over environment steps, thinned out evenly as they become many."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._stride = 1
        self._count = 0

    def add(self, steps: int, value: float) -> None:
        """Add a value."""
        if self._count % self._stride == 0:
            self.points.append(Point(steps, value))
            if len(self.points) >= MOST_POINTS:
                self.points = self.points[::2]
                self._stride *= 2
        self._count += 1

    def from_value(self, number: int) -> list[Point]:
        """Return the points from this value on (counted from 0), or the last point if fewer."""
        return self.points[-(-number // self._stride) :] or self.points[-1:]

    def mean(self, begin: float, end: float) -> float | None:
        """Return the mean between two fractions of the course (0 to 1); None if there is none."""
        count = len(self.points)
        part = self.points[int(begin * count) : int(end * count)]
        return sum(point.value for point in part) / len(part) if part else None


class History:
    """Keeps the history of a run (if it was resumed, only of this process).

    Args:
        kept: selection score of the best policy from before this process; None if there is none.
    """

    def __init__(self, kept: float | None = None) -> None:
        self.average = Curve()
        """Moving average of the training returns."""
        self.entropy = Curve()
        self.value_loss = Curve()
        self.episodes = 0
        """Number of training episodes."""
        self.above_lowest = 0
        """Number of training episodes that returned more than the smallest return."""
        self.returns: tuple[float, float] | None = None
        """Smallest and largest return of a training episode."""
        self.latest: float | None = None
        """Latest moving average."""
        self.evaluated: Point | None = None
        """Mean return of the last evaluation."""
        self.best: Point | None = None
        """Mean return of the evaluation whose policy was kept as the best."""
        self.kept = kept

    def __call__(self, when: float, event: Event) -> None:
        """Record an event."""
        del when
        match event:
            case EpisodeFinished():
                self._count(event.episode_return)
                self.latest = event.moving_average
                self.average.add(event.steps, event.moving_average)
            case Updated():
                for curve, name in ((self.entropy, "entropy"), (self.value_loss, "value_loss")):
                    if name in event.metrics:
                        curve.add(event.steps, event.metrics[name])
            case Evaluated():
                self.evaluated = Point(event.steps, event.result.selection.mean)
                if event.is_best:
                    self.best = self.evaluated

    def _count(self, value: float) -> None:
        low, high = self.returns or (value, value)
        if value < low:
            # All earlier returns were larger.
            self.above_lowest = self.episodes
        elif value > low:
            self.above_lowest += 1
        self.episodes += 1
        self.returns = min(low, value), max(high, value)
