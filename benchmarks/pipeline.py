"""The signing pipeline in process, without storage, against the bare library.

Both sides read a PEM request, check its possession, build a certificate with the same extensions,
sign it with a P-256 key and write PEM. The pipeline also applies policy, profile and lints, signs
the lint copy and verifies the real signature.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from benchmarks import csrs
from benchmarks.report import Report
from ucm.api.actor import Actor
from ucm.api.csr import parse_csr
from ucm.api.issuance import IssuanceRequest, Origin
from ucm.issuance.pipeline import _Case
from ucm.issuance.policy import public_key_of
from ucm.runtime.clock import SystemClock, SystemIds
from ucm.runtime.container import Container
from ucm.testing.app import Installation, prepare_database
from ucm.testing.builders import a_ca

TIMES_BARE = 3.0
REQUESTS = 300
ROUNDS = 5
CRL, OCSP, ISSUER = "http://pki.example/crl", "http://pki.example/ocsp", "http://pki.example/ca"
ACTOR = Actor.system("benchmark")


def bare_loop(issuer: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Callable[[bytes], Any]:
    """Parse, verify, build, sign with nothing around it."""
    aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    points = x509.CRLDistributionPoints(
        [x509.DistributionPoint([x509.UniformResourceIdentifier(CRL)], None, None, None)]
    )
    access = x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(method, x509.UniformResourceIdentifier(url))
            for method, url in (
                (AuthorityInformationAccessOID.OCSP, OCSP),
                (AuthorityInformationAccessOID.CA_ISSUERS, ISSUER),
            )
        ]
    )
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def issue(pem: bytes) -> bytes:
        request = x509.load_pem_x509_csr(pem)
        if not request.is_signature_valid:
            raise ValueError("possession not proved")
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        public_key = request.public_key()
        certificate = (
            x509.CertificateBuilder()
            .issuer_name(issuer.subject)
            .subject_name(request.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=90))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(aki, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(purposes, critical=False)
            .add_extension(names, critical=False)
            .add_extension(points, critical=False)
            .add_extension(access, critical=False)
            .sign(key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM)

    return issue


def gate(container: Container, ca_id: int) -> Callable[[bytes], Any]:
    """Policy, profile, lint, sign and verify; what the database knows was read before."""
    pipeline = container.issuance
    sample = _request(csrs.make(1)[0], ca_id)
    with container.uow.read() as reader:
        loaded = pipeline._load(sample, reader)

    def issue(pem: bytes) -> bytes:
        request = _request(pem, ca_id)
        public_key, spec = public_key_of(request)
        known = replace(loaded, public_key=public_key, key_spec=spec)
        ready = pipeline._decide(_Case(request=request, actor=ACTOR, loaded=known))
        signed = pipeline.signer.sign(ready.ticket, key=loaded.key, actor=ACTOR)
        return signed.certificate.public_bytes(Encoding.PEM)

    return issue


def _request(pem: bytes, ca_id: int) -> IssuanceRequest:
    return IssuanceRequest(origin=Origin("api"), ca_id=ca_id, profile="server", csr=parse_csr(pem))


def _microseconds(issue: Callable[[bytes], Any], pems: list[bytes]) -> float:
    """CPU of this thread per certificate."""
    start = time.thread_time()
    for pem in pems:
        issue(pem)
    return (time.thread_time() - start) / len(pems) * 1e6


def run(report: Report) -> None:
    """Alternate both in rounds and report the median of their ratios."""
    logging.getLogger("ucm").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="ucm-bench-") as name:
        url = f"sqlite:///{name}/bench.db"
        prepare_database(url)
        installation = Installation(Path(name) / "data", url, clock=SystemClock(), ids=SystemIds())
        container = installation.start()
        ca = a_ca().made_in(container)
        with container.uow.begin(ACTOR) as tx:
            ca = tx.cas.update(
                ca.id,
                cdp_enabled=True,
                cdp_urls=(CRL,),
                ocsp_enabled=True,
                ocsp_urls=(OCSP,),
                aia_ca_issuers_enabled=True,
                aia_ca_issuers_urls=(ISSUER,),
            )
        bare = bare_loop(ca.certificate, ec.generate_private_key(ec.SECP256R1()))
        ours = gate(container, ca.id)
        pems = csrs.make(REQUESTS)
        _microseconds(bare, pems[:50])
        _microseconds(ours, pems[:50])
        rounds = []
        for _ in range(ROUNDS):
            pems = csrs.make(REQUESTS)  # no key twice: some of what is worked out is remembered
            rounds.append((_microseconds(bare, pems), _microseconds(ours, pems)))
        installation.close()
    rounds.sort(key=lambda pair: pair[1] / pair[0])
    bare_cost, our_cost = rounds[len(rounds) // 2]
    report.add("bare parse-verify-build-sign, P-256", bare_cost, unit="us CPU")
    report.add("signing pipeline without storage, P-256", our_cost, unit="us CPU")
    report.add("  pipeline over bare loop", our_cost / bare_cost, unit="x", at_most=TIMES_BARE)
