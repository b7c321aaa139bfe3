"""Parsed CA certificates, shared by all units of a process."""

from __future__ import annotations

import threading

from cryptography import x509


class ParsedCertificates:
    """DER to parsed certificate. Keyed by the bytes themselves, so no entry can be stale."""

    def __init__(self, *, capacity: int = 1024) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._known: dict[bytes, x509.Certificate] = {}

    def parse(self, der: bytes) -> x509.Certificate:
        """The certificate. Treat it as read-only."""
        known = self._known.get(der)
        if known is not None:
            return known
        certificate = x509.load_der_x509_certificate(der)
        with self._lock:
            while len(self._known) >= self._capacity:
                del self._known[next(iter(self._known))]
            self._known[der] = certificate
        return certificate
