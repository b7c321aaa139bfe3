"""The compliance score of a certificate: 0 to 100 points and a grade, from what its row says.

Key strength 30, signature 25, validity status 25, subject alternative name 10, lifetime 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ucm.api.views import CertificateStatus, CertificateView

_KEY_POINTS = {
    "RSA-2048": 22,
    "RSA-3072": 27,
    "RSA-4096": 30,
    "RSA-8192": 30,
    "EC-P256": 30,
    "EC-P384": 30,
    "EC-P521": 30,
    "ED25519": 30,
    "ED448": 30,
    "ML-DSA-44": 30,
    "ML-DSA-65": 30,
    "ML-DSA-87": 30,
}
_STATUS_POINTS = {
    CertificateStatus.VALID: 25,
    CertificateStatus.EXPIRING: 15,
    CertificateStatus.ON_HOLD: 0,
    CertificateStatus.EXPIRED: 0,
    CertificateStatus.REVOKED: 0,
}
_GRADES = ((95, "A+"), (85, "A"), (70, "B"), (55, "C"), (40, "D"))


@dataclass(frozen=True, slots=True)
class Compliance:
    """Points in all and per criterion, and the grade A+, A, B, C, D or F."""

    score: int
    grade: str
    breakdown: dict[str, int]


def assess(certificate: CertificateView, *, now: datetime) -> Compliance:
    """The score at a moment."""
    breakdown = {
        "key_strength": _KEY_POINTS.get(certificate.key_type, 0),
        "signature": _signature_points(certificate.signature_algorithm),
        "validity": _STATUS_POINTS[certificate.status(now)],
        "san": 10 if _has_names(certificate) else 0,
        "lifetime": _lifetime_points((certificate.not_after - certificate.not_before).days),
    }
    score = sum(breakdown.values())
    return Compliance(score, grade_of(score), breakdown)


def grade_of(score: int) -> str:
    """The grade of a score."""
    return next((grade for floor, grade in _GRADES if score >= floor), "F")


def _signature_points(algorithm: str) -> int:
    folded = algorithm.lower()
    if "md5" in folded or "md2" in folded:
        return 0
    return 5 if "sha1" in folded or "sha-1" in folded else 25


def _has_names(certificate: CertificateView) -> bool:
    return bool(
        certificate.san_dns
        or certificate.san_ip
        or certificate.san_email
        or certificate.san_uri
        or certificate.san_upn
    )


def _lifetime_points(days: int) -> int:
    if days <= 398:
        return 10
    return 7 if days <= 825 else 0
