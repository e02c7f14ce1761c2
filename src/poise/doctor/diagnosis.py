"""The doctor's results: findings, measured rates and a recommended command, and their text.

Each check gives at least one finding. A warning or a failure says what to change.
"""

import textwrap
from typing import Any, Literal, NamedTuple

__all__ = ["Diagnosis", "Finding", "Rate", "Status", "brief", "describe"]

Status = Literal["ok", "warning", "failure"]

STATUS_WIDTH = 9
CHECK_WIDTH = 14
LONGEST_VALUE = 200
"""Maximum number of characters shown of a value."""


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        check: name of the check.
        status: ``failure`` if it would end a run or make its results wrong; ``warning`` if a run is
            possible, but the user should know.
        message: what was found.
        advice: what to change; empty if nothing needs to change.
        flags: flags that the finding adds to the recommended command line.
    """

    check: str
    status: Status
    message: str
    advice: str = ""
    flags: tuple[str, ...] = ()


class Rate(NamedTuple):
    """A measured speed.

    Attributes:
        what: what was measured.
        steps_per_second: environment steps per second, summed over all copies.
    """

    what: str
    steps_per_second: float


class Diagnosis(NamedTuple):
    """All results for one environment.

    Attributes:
        environment: the environment's name.
        findings: the findings, in the order of the checks.
        rates: the measured speeds; empty if training on the environment is not possible.
        command: the recommended command line; None if nothing can be recommended.
    """

    environment: str
    findings: tuple[Finding, ...]
    rates: tuple[Rate, ...]
    command: str | None

    @property
    def failed(self) -> bool:
        """Whether there is a failure among the findings."""
        return any(finding.status == "failure" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as JSON types."""
        return {
            "environment": self.environment,
            "failed": self.failed,
            "findings": [finding._asdict() for finding in self.findings],
            "rates": [rate._asdict() for rate in self.rates],
            "command": self.command,
        }


def describe(item: Finding | Rate, width: int = 100) -> str:
    """The table rows of one finding or rate, at most ``width`` characters wide."""
    indent = " " * (STATUS_WIDTH + CHECK_WIDTH + 2)
    width = max(width, len(indent) + 40)

    def fill(text: str, first: str, rest: str) -> str:
        # Flags stay in one piece.
        return textwrap.fill(
            text,
            width,
            initial_indent=first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )

    if isinstance(item, Rate):
        head = f"{'':{STATUS_WIDTH}} {'speed':{CHECK_WIDTH}} "
        million = _duration(1e6 / item.steps_per_second)
        text = f"{item.what}: {item.steps_per_second:,.0f} steps/s, a million steps in {million}"
        return fill(text, head, indent)
    head = f"{item.status:{STATUS_WIDTH}} {item.check:{CHECK_WIDTH}} "
    rows = [fill(item.message, head, indent)]
    if item.advice:
        rows.append(fill(item.advice, f"{indent}-> ", f"{indent}   "))
    return "\n".join(rows)


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.1f} s"


def brief(value: object) -> str:
    """A value as text on one line, shortened if it is long."""
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "..."
