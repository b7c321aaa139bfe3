"""The compliance score: which row is worth what."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ucm.api.issuance import RevocationReason
from ucm.api.views import CertificateView
from ucm.domain.compliance import assess, grade_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = CertificateView(
    id=1,
    refid="r",
    description="",
    ca_id=1,
    serial="1",
    subject="CN=a",
    common_name="a",
    issuer="CN=ca",
    not_before=NOW - timedelta(days=10),
    not_after=NOW + timedelta(days=300),
    key_type="EC-P256",
    signature_algorithm="ecdsa-with-SHA256",
    san_dns=("a",),
    thumbprint_sha256="",
    cert_type="server",
    source="api",
    template_id=None,
    key=None,
    revoked_at=None,
    revocation_reason=None,
    invalidity_date=None,
    renews=None,
    renewed_by=None,
    is_ca=False,
    state="issued",
    created_at=NOW,
    created_by="x",
)


@pytest.mark.parametrize(
    ("changes", "score"),
    [
        ({}, 100),
        ({"key_type": "RSA-2048"}, 92),
        ({"key_type": "RSA-1024"}, 70),
        ({"signature_algorithm": "sha1WithRSAEncryption"}, 80),
        ({"signature_algorithm": "md5WithRSAEncryption"}, 75),
        ({"san_dns": ()}, 90),
        ({"san_dns": (), "san_ip": ("192.0.2.1",)}, 100),
        ({"not_after": NOW + timedelta(days=700)}, 97),
        ({"not_after": NOW + timedelta(days=2000)}, 90),
        ({"not_after": NOW + timedelta(days=3)}, 90),
        ({"not_after": NOW - timedelta(days=1)}, 75),
        ({"revoked_at": NOW, "revocation_reason": RevocationReason.SUPERSEDED}, 75),
    ],
)
def test_points(changes, score):
    result = assess(replace(GOOD, **changes), now=NOW)
    assert result.score == score == sum(result.breakdown.values())
    assert result.grade == grade_of(score)


@pytest.mark.parametrize(
    ("score", "grade"),
    [
        *((100, "A+"), (95, "A+"), (94, "A"), (85, "A"), (84, "B"), (70, "B")),
        *((69, "C"), (55, "C"), (54, "D"), (40, "D"), (39, "F"), (0, "F")),
    ],
)
def test_grades(score, grade):
    assert grade_of(score) == grade
