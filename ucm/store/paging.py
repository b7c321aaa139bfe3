"""Pages of lists and the cursors between them."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from ucm.api.errors import Invalid

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page. ``total`` counts what matches; ``next_cursor`` continues behind the last item."""

    items: tuple[T, ...]
    total: int
    page: int
    per_page: int
    total_is_exact: bool = True
    """False when more match than are counted: ``total`` is then a lower bound."""
    next_cursor: str | None = None

    @property
    def pages(self) -> int:
        """Number of pages."""
        return -(-self.total // self.per_page)


def encode_cursor(order: str, values: tuple[object, ...]) -> str:
    """A text that says behind which row of an order to go on."""
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    text = json.dumps([order, *plain], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *, order: str, kinds: tuple[type, ...]) -> tuple[object, ...]:
    """The sort values in a cursor.

    Raises ``Invalid`` when it is damaged or was made for another order.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if not isinstance(found, list) or len(found) != len(kinds) + 1 or found[0] != order:
            raise _damaged()
        return tuple(_value(value, kind) for value, kind in zip(found[1:], kinds, strict=True))
    except (binascii.Error, ValueError):
        raise _damaged() from None


def _value(value: object, kind: type) -> object:
    if kind is datetime and isinstance(value, str):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise _damaged()
        return moment
    if type(value) is not kind or (isinstance(value, int) and abs(value) >= 2**63):
        raise _damaged()
    return value


def _damaged() -> Invalid:
    return Invalid.field(
        "/cursor",
        "cursor",
        "The cursor was not made by this list in this order.",
        hint="Send the next_cursor of the previous answer unchanged, or none for the first page.",
    )
