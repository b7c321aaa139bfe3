"""Step 1: what the decision needs, read in one consistent look at the database."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from ucm.api.errors import Conflict, Invalid, PolicyDenied
from ucm.api.issuance import CertificateKind, Denial, IssuanceRequest, Profile
from ucm.api.keys import KeyRecord, KeySpec
from ucm.api.publickeys import load_spki, spki_sha256
from ucm.api.services import Clock
from ucm.api.views import CaView, CertificateView
from ucm.issuance.issuer import Issuer, issuer_of
from ucm.issuance.policy import (
    ISSUER_REVOKED,
    check_in_service,
    check_kind,
    check_usable,
    public_key_of,
)
from ucm.issuance.profiles import Profiles
from ucm.issuance.signer import CAKey
from ucm.store.uow import Reader

_FRESH_SECONDS = 10.0
_MAX_DEPTH = 16


@dataclass(frozen=True, slots=True)
class _Known:
    until: float
    issuer: Issuer
    record: KeyRecord


class Issuers:
    """Authorities with their chains and key records, remembered for a few seconds.

    Whether the authority's own row is still the same is read for every request, so that offline and
    inactive ones stop at once; what stands above it and its (still sealed) key record may be ten
    seconds old. Only usable authorities are remembered.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[int, _Known] = {}
        self._lock = threading.Lock()

    def load(self, ca_id: int, *, reader: Reader) -> tuple[Issuer, CAKey]:
        """Raises ``NotFound``, ``CaOffline``, ``Conflict``."""
        standing = reader.cas.standing(ca_id)
        now = self._clock.monotonic()
        known = self._known.get(ca_id)
        if known is None or known.until < now or not standing.is_of(known.issuer.ca):
            ca = reader.cas.get(ca_id)
            check_usable(ca)
            known = self._read(ca, reader=reader, until=now + _FRESH_SECONDS)
        issuer = known.issuer
        return issuer, CAKey(known.record, issuer.public_key, issuer.ca.key)

    def _read(self, ca: CaView, *, reader: Reader, until: float) -> _Known:
        if ca.key is None:
            raise Conflict(f"UCM has no private key of the authority {ca.name!r}.")
        above = chain_above(ca, reader=reader)
        known = _Known(until, issuer_of(ca, above=above), reader.keys.record(ca.key))
        with self._lock:
            self._known[ca.id] = known
        return known


def chain_above(ca: CaView, *, reader: Reader) -> list[CaView]:
    """Authorities from the parent to the root, as far as UCM knows them."""
    above: list[CaView] = []
    following = ca.parent_id
    while following is not None and len(above) < _MAX_DEPTH:
        parent = reader.cas.find(following)
        if parent is None:
            break
        above.append(parent)
        following = parent.parent_id
    return above


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """Everything about a request that the database knows."""

    profile: Profile
    public_key: bytes
    key_spec: KeySpec
    spki_sha256: str
    issuer: Issuer | None
    key: CAKey
    subject_key: KeyRecord | None
    """The key that is kept with the certificate, stored before or together with it."""
    renewed: CertificateView | None
    compromised: bool


def load(
    request: IssuanceRequest, *, reader: Reader, profiles: Profiles, issuers: Issuers
) -> Loaded:
    """Raises ``NotFound``, ``CaOffline``, ``Conflict``, and ``Invalid`` for weak keys and parts
    that do not fit together.
    """
    profile = profiles.resolve(request.profile, templates=reader.templates)
    check_kind(request, profile)
    issuer: Issuer | None
    if request.ca_id is None:
        public_key, spec = public_key_of(request)
        issuer, key = None, _own_key(request, public_key, reader=reader)
    else:
        issuer, key = issuers.load(request.ca_id, reader=reader)
        public_key, spec = public_key_of(request)
    digest = spki_sha256(public_key)
    renewed = None
    if request.renews is not None:
        renewed = reader.certificates.get(request.renews)
        if renewed.is_ca and profile.kind is CertificateKind.END_ENTITY:
            raise Conflict("A certificate of an authority is not renewed as an end entity's.")
    return Loaded(
        profile=profile,
        public_key=public_key,
        key_spec=spec,
        spki_sha256=digest,
        issuer=issuer,
        key=key,
        subject_key=_subject_key(request, reader=reader),
        renewed=renewed,
        compromised=reader.certificates.compromised(digest),
    )


def _subject_key(request: IssuanceRequest, *, reader: Reader) -> KeyRecord | None:
    return request.new_key if request.key is None else reader.keys.record(request.key)


def _selves(request: IssuanceRequest, *, reader: Reader) -> list[CaView]:
    """The authorities that a self-signed certificate is for, if they exist already."""
    ids = [] if request.key is None else reader.cas.key_users(request.key.id)
    found = [reader.cas.get(ca_id) for ca_id in ids]
    if request.renews is not None:
        renewed = reader.cas.by_certificate(request.renews)
        if renewed is not None and renewed.id not in ids:
            found.append(renewed)
    return found


def _own_key(request: IssuanceRequest, public_key: bytes, *, reader: Reader) -> CAKey:
    """The key that signs itself."""
    public = load_spki(public_key)
    for ca in _selves(request, reader=reader):
        check_in_service(ca)
        if ca.revoked:
            raise PolicyDenied(
                [
                    Denial(
                        ISSUER_REVOKED,
                        f"The root {ca.name!r} is revoked and cannot renew itself.",
                        "Make a new root with a new key.",
                        "/ca_id",
                    )
                ]
            )
    if request.new_key is not None:
        return CAKey(request.new_key, public)
    if request.key is None:
        raise Invalid("A self-signed root needs its private key.")
    return CAKey(reader.keys.record(request.key), public, request.key)
