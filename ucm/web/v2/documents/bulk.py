"""Outcomes of bulk operations as JSON."""

from __future__ import annotations

from typing import Any

from ucm.services.bulk import BulkOutcome


def bulk_json(outcome: BulkOutcome, *, made: bool = False) -> dict[str, Any]:
    """``success``, ``failed`` and, with ``made``, the certificates that came of it by old id."""
    document: dict[str, Any] = {
        "success": outcome.success,
        "failed": [
            {"id": failure.id, "error": failure.error, "code": failure.code}
            for failure in outcome.failed
        ],
    }
    if made:
        document["certificates"] = {str(key): value for key, value in outcome.made.items()}
    return document
