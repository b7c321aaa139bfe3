"""Bulk operations: each object by itself, never all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ucm.api.errors import UcmError


@dataclass(frozen=True, slots=True)
class BulkFailure:
    """Why one object stayed as it was."""

    id: int
    error: str
    code: str


@dataclass(slots=True)
class BulkOutcome:
    """What happened to each object. ``made`` maps an object to the one that was made from it."""

    success: list[int] = field(default_factory=list)
    failed: list[BulkFailure] = field(default_factory=list)
    made: dict[int, int] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """For the audit row."""
        return {"succeeded": list(self.success), "failed": [failure.id for failure in self.failed]}


def each(ids: Iterable[int], operation: Callable[[int], Any]) -> BulkOutcome:
    """Run an operation on every id once, in order; a refusal of one does not stop the others.

    An operation that returns an id has made that object.
    """
    outcome = BulkOutcome()
    for key in dict.fromkeys(ids):
        try:
            made = operation(key)
        except UcmError as error:
            outcome.failed.append(BulkFailure(key, error.detail, error.code))
            continue
        outcome.success.append(key)
        if isinstance(made, int):
            outcome.made[key] = made
    return outcome
