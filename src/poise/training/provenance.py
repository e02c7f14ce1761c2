"""Provenance: where a run was recorded, and all differences here that may change its numbers."""

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
    """Return the differences between here and there that may change the run's numbers.

    Args:
        header: the header of the run's journal.
        resolved: the decisions in the run's ``config.json``.
        components: the run's components, as assembled here.
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
    """Warn, when resuming, that the whole run may not be replayable.

    Args:
        folder: the run's folder; its journal is intact up to the checkpoint.
        resolved: the decisions in the run's ``config.json``.
        components: the run's components, as assembled here.
    """
    with JournalReader(folder / "journal") as journal:
        found = differences(journal.header, resolved, components)
    if found:
        warn_caller(
            "this run was recorded elsewhere, so the whole of it may no longer replay bit for bit: "
            + "; ".join(found)
        )


def _plain(value: object) -> str:
    """Return short, printable text unchanged; quote anything else: it may come from a stranger."""
    text = str(value) if isinstance(value, str | None) and str(value).isprintable() else ""
    quoted = shown(value)
    return text if text and not quoted.endswith("...") else quoted
