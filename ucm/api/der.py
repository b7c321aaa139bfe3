"""DER at the level of tags and lengths, for bytes that a strict parser accepts or has accepted."""

from __future__ import annotations


def end_of(der: bytes, start: int = 0) -> int:
    """Where the value that begins at ``start`` ends. The input must be well-formed DER."""
    first = der[start + 1]
    if first < 0x80:
        return start + 2 + first
    content = start + 2 + (first & 0x7F)
    return content + int.from_bytes(der[start + 2 : content], "big")


def content_of(der: bytes, start: int = 0) -> int:
    """Where the content of the value that begins at ``start`` begins."""
    first = der[start + 1]
    return start + 2 + (first & 0x7F if first >= 0x80 else 0)


def value_of(tag: int, content: bytes) -> bytes:
    """The DER value with a one-octet tag and this content."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content
