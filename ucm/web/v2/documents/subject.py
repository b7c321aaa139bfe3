"""Subject attributes for display, read from RFC 4514 text.

Lists show organisation and country of a hundred rows; the text is in the row, so no DER is read.
Nothing is decided by these values.
"""

from __future__ import annotations

import re
from functools import lru_cache
from types import MappingProxyType

_SEPARATOR = re.compile(r"(?<!\\)(?:\\\\)*[,+]")
_ESCAPED = re.compile(r"\\([0-9a-fA-F]{2}|.)", re.DOTALL)
_FIELDS = {
    "CN": "common_name",
    "O": "organization",
    "OU": "organizational_unit",
    "C": "country",
    "ST": "state",
    "L": "locality",
    "emailAddress": "email",
    "E": "email",
    "1.2.840.113549.1.9.1": "email",
}
_EMPTY = dict.fromkeys(_FIELDS.values())


@lru_cache(maxsize=8192)
def subject_fields(text: str) -> MappingProxyType[str, str | None]:
    """``common_name``, ``organization``, ``organizational_unit``, ``country``, ``state``,
    ``locality`` and ``email``; the first value of each in the certificate's own order."""
    fields: dict[str, str | None] = dict(_EMPTY)
    for part in reversed(_parts(text)):
        attribute, _, value = part.partition("=")
        field = _FIELDS.get(attribute.strip())
        if field is not None and fields[field] is None:
            fields[field] = _unescaped(value)
    return MappingProxyType(fields)


def _parts(text: str) -> list[str]:
    parts, start = [], 0
    for match in _SEPARATOR.finditer(text):
        parts.append(text[start : match.end() - 1])
        start = match.end()
    parts.append(text[start:])
    return parts


def _unescaped(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPED.sub(
        lambda m: chr(int(m[1], 16)) if len(m[1]) == 2 else m[1],
        value,
    )
