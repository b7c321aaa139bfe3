"""CSRF tokens: ``timestamp:nonce:signature``, bound to the signed-in user, valid for 24 hours."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import timedelta

from ucm.api.services import Clock, Ids
from ucm.web.errors import CsrfFailed

LIFETIME = timedelta(hours=24)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_HINT = "Send the token of GET /api/v2/auth/verify in the header X-CSRF-Token."
_NONCE_BYTES = 16


class CsrfTokens:
    """Makes and checks tokens; HMAC-SHA256 under the server's secret key."""

    def __init__(self, secret: bytes, *, clock: Clock, ids: Ids) -> None:
        self._secret = secret
        self._clock = clock
        self._ids = ids

    def issue(self, user_id: int) -> str:
        """A token for that user."""
        issued = str(int(self._clock.now().timestamp()))
        text = self._ids.token(_NONCE_BYTES)
        nonce = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex()
        return f"{issued}:{nonce}:{self._signature(issued, nonce, user_id=user_id)}"

    def check(self, token: str | None, *, user_id: int) -> None:
        """Raises ``CsrfFailed`` for a missing, foreign, forged, old or future token."""
        if not token:
            raise CsrfFailed("CSRF validation failed: no token was sent.", hint=_HINT)
        parts = token.split(":")
        if len(token) > 256 or len(parts) != 3 or not token.isascii():
            raise CsrfFailed("CSRF validation failed: the token is malformed.", hint=_HINT)
        issued, nonce, signature = parts
        expected = self._signature(issued, nonce, user_id=user_id)
        if not hmac.compare_digest(signature, expected) or not issued.isdigit():
            raise CsrfFailed(
                "CSRF validation failed: the token was not made for this session.", hint=_HINT
            )
        age = self._clock.now().timestamp() - int(issued)
        if not -1 < age <= LIFETIME.total_seconds():
            raise CsrfFailed("CSRF validation failed: the token has expired.", hint=_HINT)

    def _signature(self, issued: str, nonce: str, *, user_id: int) -> str:
        message = f"{issued}:{nonce}:{user_id}".encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()
