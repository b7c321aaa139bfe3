"""Answers that the server gives before the application is asked (RFC 9457 problem documents)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

from ucm.api.hotpath import Header


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that the server itself turns down.

    ``code`` ends the type URN; ``detail`` says the rule and what to do. ``close`` ends the
    connection after the answer, because what follows on it cannot be trusted or need not be read.
    """

    status: int
    code: str
    detail: str
    close: bool = False
    retry_after: int | None = None

    @property
    def phrase(self) -> bytes:
        """The reason phrase of the status line."""
        return HTTPStatus(self.status).phrase.encode()

    def body(self) -> bytes:
        """The problem document as JSON."""
        document = {
            "type": f"urn:ucm:error:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "success": False,
            "error": self.detail,
        }
        return json.dumps(document).encode()

    def headers(self, *, length: int) -> list[Header]:
        """Response headers for a body of `length` bytes."""
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % length),
            (b"cache-control", b"no-store"),
        ]
        if self.retry_after is not None:
            headers.append((b"retry-after", b"%d" % self.retry_after))
        if self.close:
            headers.append((b"connection", b"close"))
        return headers


class Refused(Exception):
    """Raised inside the server to answer with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


MALFORMED = Refusal(
    400,
    "malformed-request",
    "The request is not well-formed HTTP/1.1 (RFC 9112): lines end with CRLF, and a message has "
    "one length.",
    close=True,
)
HEADER_TIMEOUT = Refusal(
    408,
    "request-timeout",
    "The request header did not arrive in time; send it whole, without pauses.",
    close=True,
)
BODY_TIMEOUT = Refusal(
    408,
    "request-timeout",
    "The request body arrived too slowly; send it faster, or in smaller requests.",
    close=True,
)
HEADER_TOO_LARGE = Refusal(
    431,
    "header-too-large",
    "The request header is larger, or has more fields, than this server accepts; send fewer and "
    "shorter fields.",
    close=True,
)
TARGET_TOO_LONG = Refusal(
    414,
    "uri-too-long",
    "The request target is too long; move data to the request body.",
    close=True,
)
BAD_TARGET = Refusal(
    400,
    "malformed-request",
    "The request target must be an absolute path without fragment, dot segments or NUL (RFC 9112 "
    "3.2).",
    close=True,
)
BAD_HOST = Refusal(
    400,
    "malformed-request",
    "An HTTP/1.1 request carries exactly one Host header, equal to the authority of an absolute "
    "target "
    "(RFC 9112 3.2).",
    close=True,
)
BAD_TRANSFER_CODING = Refusal(
    501,
    "transfer-coding-unsupported",
    "Only the transfer coding `chunked` is understood, and only in HTTP/1.1 (RFC 9112 6.1).",
    close=True,
)
BAD_VERSION = Refusal(
    505, "http-version-unsupported", "This server speaks HTTP/1.1 and HTTP/1.0 only.", close=True
)
TOO_MANY_PIPELINED = Refusal(
    400,
    "too-many-pipelined",
    "Too many requests were sent on this connection before their answers were read; wait for "
    "answers.",
    close=True,
)
TOO_MANY_CONNECTIONS = Refusal(
    503,
    "busy",
    "The server has as many open connections as it accepts; try again in a moment.",
    close=True,
    retry_after=1,
)
QUEUE_FULL = Refusal(
    503,
    "busy",
    "The server is working on as many requests as it accepts; try again in a moment.",
    retry_after=1,
)
INTERNAL = Refusal(
    500,
    "internal",
    "The server failed on this request; the log of the server says why. Nothing of it may be "
    "assumed done.",
)
PLAIN_HTTP_PATH = Refusal(
    404,
    "not-on-plain-http",
    "This port serves only the plain-http protocol paths and /health; use the https port for "
    "everything else.",
)


def body_too_large(*, limit: int) -> Refusal:
    """413 that names the limit in bytes."""
    return Refusal(
        413,
        "body-too-large",
        f"The request body is larger than {limit} bytes; send less, or split it into several "
        "requests.",
        close=True,
    )
