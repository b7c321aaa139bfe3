"""The success envelope: ``{data, message?, meta?}``, keys omitted when empty."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from flask import Response
from pydantic import TypeAdapter


class Paged(Protocol):
    """What ``page_meta`` needs of a page of a list."""

    @property
    def total(self) -> int: ...
    @property
    def page(self) -> int: ...
    @property
    def per_page(self) -> int: ...


_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


def _unrendered(value: object) -> object:
    raise TypeError(f"{type(value).__name__} has no JSON form here; render it first")


def timestamp(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with ``Z``; ``None`` stays ``None``."""
    if moment is None:
        return None
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return f"{moment.isoformat()[:-6]}Z"


def json_response(document: object, *, status: int = 200) -> Response:
    """A JSON response of any document. Datetimes become RFC 3339 text with ``Z``."""
    # Three times as fast as the standard library's; a list of 100 rows is half made of this.
    text = _ANYTHING.dump_json(document, fallback=_unrendered)
    return Response(text, status=status, mimetype="application/json")


def ok(
    data: Any = None,
    *,
    message: str | None = None,
    meta: Mapping[str, Any] | None = None,
    status: int = 200,
) -> Response:
    """A success. Datetimes become RFC 3339 text with ``Z``."""
    document: dict[str, Any] = {}
    if data is not None:
        document["data"] = data
    if message:
        document["message"] = message
    if meta:
        document["meta"] = dict(meta)
    return json_response(document, status=status)


def created(
    data: Any, *, location: str | None = None, message: str = "Created successfully"
) -> Response:
    """201, with the ``Location`` of the new object when it has one."""
    response = ok(data, message=message, status=201)
    if location is not None:
        response.headers["Location"] = location
    return response


def no_content() -> Response:
    """204."""
    return Response(status=204)


def page_meta(page: Paged, **more: Any) -> dict[str, Any]:
    """``meta`` of a paged list."""
    pages = -(-page.total // page.per_page) if page.per_page else 0
    return {
        "total": page.total,
        "page": page.page,
        "per_page": page.per_page,
        "total_pages": pages,
        "has_next": page.page < pages,
        "has_prev": page.page > 1,
        **more,
    }
