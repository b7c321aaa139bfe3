"""What a plugin gets from the host: ``PluginContext`` and the protocols behind its attributes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy.orm import Session

from ucm.api.actor import Actor
from ucm.api.events import Event
from ucm.api.issuance import (
    IssuanceRequest,
    IssuanceResult,
    IssuedCertificate,
    RevocationRequest,
)
from ucm.api.keys import KeyPurpose, KeyRecord, KeyRef, KeySpec, SigningKey
from ucm.api.manifest import PluginManifest
from ucm.api.settings import PluginSettings
from ucm.api.views import CaView, CertificateView


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> datetime:
        """Aware UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds for measuring durations."""
        ...


class Ids(Protocol):
    """The only source of identifiers and randomness for names."""

    def new_id(self) -> str:
        """A UUID in text form."""
        ...

    def serial(self) -> int:
        """A certificate serial: positive, 64 to 159 bits from a CSPRNG (RFC 5280 4.1.2.2)."""
        ...

    def token(self, size: int = 32) -> str:
        """URL-safe text of ``size`` random bytes."""
        ...


class Sealer(Protocol):
    """Seals secrets for the database under the master key.
    Raises ``SafeMode`` when there is none. A plugin's sealer unseals what it sealed itself.
    """

    def seal(self, secret: bytes) -> str:
        """``ENC:`` and a Fernet token."""
        ...

    def unseal(self, sealed: str) -> bytes:
        """The secret. Raises ``SafeMode`` when there is no right master key, ``KeyUnavailable``
        when this one text is damaged or was sealed under another key, ``Forbidden`` when the core
        or another plugin sealed it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """What an audit row is about."""

    type: str
    id: int | str | None = None
    name: str = ""


class Transaction(Protocol):
    """One write unit: state, audit rows and events commit together or not at all."""

    @property
    def actor(self) -> Actor:
        """Who acts."""
        ...

    @property
    def session(self) -> Session:
        """For the owner's own tables only; flushed and closed when the unit ends. Raises
        ``Forbidden`` for statements that name tables of the core.
        """
        ...

    def audit(self, action: str, *, target: Target, success: bool = True, **facts: Any) -> None:
        """Add an audit row. Facts are JSON-able and never secret.
        Raises ``LookupError`` for an undeclared action.
        """
        ...

    def emit(self, event: Event) -> None:
        """Add an outbox row; observers see the event after the commit."""
        ...

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run once the unit is durable; not run when it rolls back."""
        ...


class Reader(Protocol):
    """One consistent read."""

    @property
    def session(self) -> Session:
        """For the owner's own tables only, as in a ``Transaction``."""
        ...


class UnitOfWork(Protocol):
    """Begins transactions. Concurrent write units may share one durable commit (group commit)."""

    def begin(self, actor: Actor) -> AbstractContextManager[Transaction]:
        """A write unit; leaving the block returns after the commit is durable, an exception rolls
        back.
        """
        ...

    def read(self) -> AbstractContextManager[Reader]:
        """A consistent read; writes are refused."""
        ...


OnStored = Callable[[Transaction, IssuedCertificate], None]


class Issuance(Protocol):
    """The one door to a CA's signature."""

    def issue(
        self, request: IssuanceRequest, *, actor: Actor, on_stored: OnStored | None = None
    ) -> IssuanceResult:
        """Issue or hold. Raises ``PolicyDenied``, ``LintFailed``, ``CaOffline``,
        ``KeyUnavailable``, ``PluginUnavailable``, ``Invalid``, ``NotFound``."""
        ...

    def resume(
        self,
        request_id: int,
        *,
        actor: Actor,
        approvals: tuple[int, ...] = (),
        on_stored: OnStored | None = None,
    ) -> IssuanceResult:
        """Start a held request again from its first step, with the approvals it was given (ids of
        the deciding plugin's own). Raises ``NotFound``, ``Conflict`` (decided already), and
        what ``issue`` raises.
        """
        ...

    def reject(self, request_id: int, *, actor: Actor, reason: str) -> None:
        """Decide against a held request. Raises ``NotFound``, ``Conflict`` (decided already)."""
        ...

    def revoke(self, request: RevocationRequest, *, actor: Actor) -> CertificateView:
        """Revoke or hold. Raises ``PolicyDenied``, ``Conflict`` (already revoked), ``NotFound``."""
        ...

    def unhold(self, certificate_id: int, *, actor: Actor) -> CertificateView:
        """Lift a hold. Raises ``Conflict`` when the certificate is not on hold."""
        ...


class Certificates(Protocol):
    """Look-ups of certificates."""

    def get(self, certificate_id: int) -> CertificateView:
        """Raises ``NotFound``."""
        ...

    def find(self, ca_id: int, serial: int) -> CertificateView | None:
        """By issuer and serial, the only identity a certificate has."""
        ...

    def chain(self, certificate_id: int) -> Sequence[bytes]:
        """DER from the certificate to its root, as far as UCM knows it."""
        ...


class CertificateAuthorities(Protocol):
    """Look-ups of authorities."""

    def get(self, ca_id: int) -> CaView:
        """Raises ``NotFound``."""
        ...

    def by_refid(self, refid: str) -> CaView:
        """Raises ``NotFound``."""
        ...

    def all(self) -> Iterable[CaView]:
        """Every authority."""
        ...


class Keys(Protocol):
    """The plugin's own keys, in whatever backend the operator chose.
    CA keys and keys of others are refused with ``Forbidden``.
    """

    def make(self, spec: KeySpec, *, label: str, backend: str | None = None) -> KeyRecord:
        """Make a key that is not stored yet: outside of units, since RSA takes seconds.
        Goes into ``IssuanceRequest.new_key`` or ``keep``. Raises ``Unsupported``.
        """
        ...

    def keep(
        self, record: KeyRecord, *, purpose: KeyPurpose, label: str, tx: Transaction
    ) -> KeyRef:
        """Store a made key in the given transaction."""
        ...

    def generate(
        self,
        spec: KeySpec,
        *,
        purpose: KeyPurpose,
        label: str,
        tx: Transaction,
        backend: str | None = None,
    ) -> KeyRef:
        """``make`` and ``keep`` in one, for kinds of keys that are made quickly."""
        ...

    def open(self, ref: KeyRef) -> AbstractContextManager[SigningKey]:
        """Use a key."""
        ...

    def record(self, ref: KeyRef) -> KeyRecord:
        """Where the key lives. Raises ``NotFound``."""
        ...

    def destroy(self, ref: KeyRef, *, tx: Transaction) -> None:
        """Delete the record and make the key unusable."""
        ...


@dataclass(frozen=True, slots=True)
class JobRun:
    """One run of a job: ``fence`` grows with every lease; ``stopping`` turns true when the
    worker must stop.
    """

    id: int
    job: str
    fence: int
    started_at: datetime
    stopping: Callable[[], bool]
    progress: Callable[[str], None]


class AskOthers(Protocol):
    """Calls a hook that the plugin offers (``ucm_hookspecs``) on all that implement it."""

    def __call__(self, hook: str, **arguments: object) -> Sequence[tuple[str, Any]]:
        """Answers by plugin name, in start order; one that raises is logged, counted and left out.

        Raises ``LookupError`` for a hook that this plugin does not offer.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginContext:
    """Everything a plugin may use. No engine, no application, no CA key.

    Its keys, its sealer and its sessions refuse what is the core's with ``Forbidden``. That keeps
    faults in bounds, not malice: a plugin runs in the process that holds the keys.
    """

    manifest: PluginManifest
    settings: Callable[[], PluginSettings | None]
    """The current immutable snapshot of the plugin's settings class."""
    clock: Clock
    ids: Ids
    log: logging.Logger
    uow: UnitOfWork
    issuance: Issuance
    certificates: Certificates
    cas: CertificateAuthorities
    keys: Keys
    sealer: Sealer = field(repr=False)
    ask_others: AskOthers
    url_for_public: Callable[[str], str]
    """Absolute https URL of a path, as clients reach it."""
    url_for_public_http: Callable[[str], str]
    """Absolute URL of a path on the plain-http protocol port."""
