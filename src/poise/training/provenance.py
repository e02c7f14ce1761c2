"""Where a run was recorded, and what is different here: all that may change a last bit."""

from pathlib import Path
from typing import Any

from poise.learning.journal import JournalReader
from poise.training.components import RunComponents
from poise.training.decisions import decisions
from poise.training.runtime import processor_model, versions
from poise.user_warnings import warn_caller
from poise.validation import shown

__all__ = ["differences", "warn_of_differences"]

_DECISIVE_PACKAGES = ("jax", "jaxlib", "gymnasium", "numpy", "optax", "equinox", "poise")


def differences(
    header: dict[str, Any], resolved: dict[str, Any], components: RunComponents
) -> tuple[str, ...]:
    """What is different here and might make a difference.

    Args:
        header: of the run's journal.
        resolved: what the run's ``config.json`` says was decided.
        components: the run's parts, as they were put together here.
    """
    found = []
    theirs, ours = header.get("versions"), versions()
    for package in _DECISIVE_PACKAGES:
        was = theirs.get(package) if isinstance(theirs, dict) else None
        if was != ours.get(package):
            found.append(f"{package} was {_plain(was)}, here it is {ours.get(package)}")
    if header.get("processor") != processor_model():
        was = _plain(header.get("processor"))
        found.append(f"the processor was {was}, here {processor_model()}")
    for name, value in decisions(components).items():
        if resolved.get(name) != value:
            found.append(f"{name} was {_plain(resolved.get(name))}, here {value}")
    return tuple(found)


def warn_of_differences(folder: Path, resolved: dict[str, Any], components: RunComponents) -> None:
    """Warn that the whole of a run which goes on here may not replay; for `resume`.

    Args:
        folder: of the run; its journal is whole that far.
        resolved: what the run's ``config.json`` says was decided.
        components: the run's parts, as they were put together here.
    """
    with JournalReader(folder / "journal") as journal:
        found = differences(journal.header, resolved, components)
    if found:
        warn_caller(
            "this run was recorded elsewhere, so the whole of it may no longer replay bit for bit: "
            + "; ".join(found)
        )


def _plain(value: object) -> str:
    """As it is, unless a stranger's text would do something to the terminal, or fill it."""
    text = str(value) if isinstance(value, str | None) and str(value).isprintable() else ""
    quoted = shown(value)
    return text if text and not quoted.endswith("...") else quoted
