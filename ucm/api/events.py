"""Events: committed facts. One frozen dataclass each; ``name`` and ``version`` are stable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Base of all events.
    Fields hold JSON-able values or datetimes; ``private`` fields never leave UCM.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    private: ClassVar[frozenset[str]] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One attempt to deliver a committed event. ``id`` is the same in every attempt: subscribers
    tell repetitions by it.
    """

    id: int
    attempt: int
    committed_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateIssued(Event):
    """A certificate was signed and stored, CA certificates and renewals included."""

    name: ClassVar[str] = "certificate.issued"
    certificate_id: int
    ca_id: int | None
    serial: str
    subject: str
    origin: str
    not_after: datetime
    renews: int | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateRevoked(Event):
    """A certificate was revoked or put on hold (``reason`` is the RFC 5280 name)."""

    name: ClassVar[str] = "certificate.revoked"
    certificate_id: int
    ca_id: int | None
    serial: str
    reason: str
    revoked_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateUnheld(Event):
    """A hold was lifted (``removeFromCRL`` in the next delta CRL)."""

    name: ClassVar[str] = "certificate.unheld"
    certificate_id: int
    ca_id: int | None
    serial: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateImported(Event):
    """A certificate made elsewhere was stored."""

    name: ClassVar[str] = "certificate.imported"
    certificate_id: int
    ca_id: int | None
    serial: str
    subject: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateDeleted(Event):
    """A certificate row was deleted; its serial stays reserved."""

    name: ClassVar[str] = "certificate.deleted"
    certificate_id: int
    ca_id: int | None
    serial: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CsrSubmitted(Event):
    """A certificate signing request was stored and waits to be signed."""

    name: ClassVar[str] = "csr.submitted"
    csr_id: int
    subject: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CaCreated(Event):
    """An authority was created or imported."""

    name: ClassVar[str] = "ca.created"
    ca_id: int
    subject: str
    imported: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CaUpdated(Event):
    """An authority's settings changed or its certificate was renewed."""

    name: ClassVar[str] = "ca.updated"
    ca_id: int
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class CaDeleted(Event):
    """An authority without children and certificates was deleted."""

    name: ClassVar[str] = "ca.deleted"
    ca_id: int
    subject: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UserChanged(Event):
    """An account was created, changed or deleted (``change`` says which)."""

    name: ClassVar[str] = "user.changed"
    user_id: int
    username: str
    change: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsChanged(Event):
    """Settings were written; keys only, never values."""

    name: ClassVar[str] = "settings.changed"
    keys: tuple[str, ...]


CORE_EVENTS: tuple[type[Event], ...] = (
    CertificateIssued,
    CertificateRevoked,
    CertificateUnheld,
    CertificateImported,
    CertificateDeleted,
    CsrSubmitted,
    CaCreated,
    CaUpdated,
    CaDeleted,
    UserChanged,
    SettingsChanged,
)
