"""What the doctor says: findings, measured rates and a recommended command line, and how they read.

One finding for each thing that was looked at; a warning or a failure says what to change.
"""

import textwrap
from typing import Any, Literal, NamedTuple

__all__ = ["Diagnosis", "Finding", "Rate", "Status", "brief", "describe"]

Status = Literal["ok", "warning", "failure"]

STATUS_WIDTH = 9
CHECK_WIDTH = 14
LONGEST_VALUE = 200
"""Letters of a value that are shown."""


class Finding(NamedTuple):
    """One thing that the doctor looked at.

    Attributes:
        check: what was looked at.
        status: ``failure`` is what would end a run or make its results wrong; ``warning`` is what
            a run survives, but should be known.
        message: what was found.
        advice: what to change, empty where nothing is to be changed.
        flags: what the finding adds to the recommended command line.
    """

    check: str
    status: Status
    message: str
    advice: str = ""
    flags: tuple[str, ...] = ()


class Rate(NamedTuple):
    """A measured speed.

    Attributes:
        what: was measured.
        steps_per_second: environment steps per second, of all copies together.
    """

    what: str
    steps_per_second: float


class Diagnosis(NamedTuple):
    """All that the doctor says about one environment.

    Attributes:
        environment: its name.
        findings: in the order in which things were looked at.
        rates: what was measured; empty where the environment cannot be trained.
        command: the recommended command line; None where nothing could be recommended.
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
        """As JSON types."""
        return {
            "environment": self.environment,
            "failed": self.failed,
            "findings": [finding._asdict() for finding in self.findings],
            "rates": [rate._asdict() for rate in self.rates],
            "command": self.command,
        }


def describe(item: Finding | Rate, width: int = 100) -> str:
    """The rows of a table about one finding or rate, at most ``width`` letters wide."""
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
        text = f"{item.what}: {item.steps_per_second:,.0f} steps/s, a million in {million}"
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
    """A value for a message, shortened."""
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "..."
