"""The one real clock and the one real source of identifiers; everything else takes them as
arguments.
"""

from __future__ import annotations

import secrets
import time
import uuid
from datetime import UTC, datetime


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds for measuring durations; never goes back."""
        return time.monotonic()


class SystemIds:
    """Identifiers from the operating system's CSPRNG."""

    def new_id(self) -> str:
        """A random UUID in text form."""
        return str(uuid.uuid4())

    def serial(self) -> int:
        """A positive serial of 127 bits, the highest one set: always 16 octets in DER (RFC 5280
        4.1.2.2).

        126 random bits are well above the 64 that the CA/Browser Forum asks for.
        """
        return secrets.randbits(126) | 1 << 126

    def token(self, size: int = 32) -> str:
        """URL-safe text of ``size`` random bytes."""
        return secrets.token_urlsafe(size)
