"""Many certificate rows in little time, for tests and benchmarks of lists."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ucm.store.certificates import NewCertificate

_HOSTS = ("www", "api", "mail", "vpn", "git", "ldap", "print", "db")
_SITES = ("berlin", "lyon", "porto", "oslo", "graz", "turin", "delft", "ghent", "malmo", "brno")
_SOURCES = ("api", "acme", "scep", "est", "import")
_KEYS = ("EC-P256", "EC-P384", "RSA-2048", "ED25519")


def load_certificates(
    engine: Engine, count: int, *, now: datetime, ca_id: int | None = None, der: bytes = bytes(700)
) -> None:
    """Insert `count` certificates with their search terms, oldest first, in one transaction.

    Row `n` is host `<role>-<n>.<site>.example.com`. Of each hundred, about ten are expired, five
    expire within thirty days, three are revoked and one is on hold. `der` is stored in every row:
    give a real certificate where it is parsed. The rows' serials count up from 2**64.
    """
    from sqlalchemy import func, insert, select

    from ucm.store import tables

    with engine.begin() as connection:
        newest = connection.execute(select(func.max(tables.certificate.c.id))).scalar_one()
        numbers = iter(range((newest or 0) + 1, (newest or 0) + 1 + count))
        while batch := list(islice(numbers, 2000)):
            new = [a_certificate(n, now=now, ca_id=ca_id, der=der) for n in batch]
            rows = [
                {**row.row(), "id": n, "created_at": row.not_before, "created_by": "bulk"}
                for n, row in zip(batch, new, strict=True)
            ]
            connection.execute(insert(tables.certificate), rows)
            connection.execute(insert(tables.certificate_term), list(_terms(batch, new)))
        if connection.dialect.name == "postgresql":  # SQLite's lists do without statistics
            connection.exec_driver_sql("ANALYZE")


def a_certificate(
    number: int, *, now: datetime, ca_id: int | None = None, der: bytes = b"", **changes: Any
) -> NewCertificate:
    """A plausible row; the same number gives the same one. `changes` replace fields."""
    from ucm.api.issuance import RevocationReason
    from ucm.store.certificates import NewCertificate

    digest = hashlib.sha256(b"%d" % number).hexdigest()
    chance = int(digest[:8], 16) % 100
    name = f"{_HOSTS[number % 8]}-{number}.{_SITES[number // 8 % 10]}.example.com"
    not_before = now - timedelta(days=300, seconds=-number % 86_400)
    not_after = now + timedelta(days=31 + chance * 3, minutes=number % 1440)
    if chance < 10:
        not_after = now - timedelta(days=1 + chance, minutes=number % 1440)
    elif chance < 15:
        not_after = now + timedelta(days=chance, minutes=number % 1440)
    revoked: dict[str, Any] = {}
    if 20 <= chance < 24:
        reason = RevocationReason.CERTIFICATE_HOLD if chance == 20 else RevocationReason.SUPERSEDED
        revoked = {"revoked_at": now - timedelta(days=chance), "revocation_reason": reason}
    values: dict[str, Any] = {
        "refid": f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}",
        "description": name,
        "ca_id": ca_id,
        "serial": f"{2**64 + number:x}",
        "subject": f"CN={name},O=Example",
        "common_name": name,
        "issuer": "CN=Bulk CA,O=Example",
        "not_before": not_before,
        "not_after": not_after,
        "key_type": _KEYS[number % 4],
        "signature_algorithm": "ecdsa-with-SHA256",
        "san_dns": (name,),
        "subject_key_id": digest[:40],
        "authority_key_id": "00" * 20,
        "thumbprint_sha256": digest,
        "thumbprint_sha1": digest[:40],
        "spki_sha256": digest[::-1],
        "cert_type": "server",
        "source": _SOURCES[number % 5],
        "texts": ("Example",),
        "der": der,
    }
    return NewCertificate(**{**values, **revoked, **changes})


def _terms(batch: list[int], new: list[NewCertificate]) -> Iterator[dict[str, Any]]:
    for number, row in zip(batch, new, strict=True):
        for term in row.terms:
            yield {"term": term, "certificate_id": number}
