"""A plugin that kills the whole server at a chosen step of an issuance, as a power failure would.

It notes every step of the request it watches: hooks, lints, key use and each SQL statement and
commit. ``KILLER_PLAN`` names a file: empty means "note the steps in <file>.trace"; a number means
"kill when that many steps were passed".

It also brings a key backend that is not local, as a token in a network would be: issuance with its
keys commits an intent before it asks for the signature. The backend keeps a diary of what it
signed, which outlives the kill.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from sqlalchemy import Engine, event

from ucm.api import PluginContext, PluginManifest, hookimpl
from ucm.api.actor import Actor
from ucm.api.events import CertificateIssued
from ucm.api.issuance import CertificateDraft, Denial, DraftPatch, Hold, IssuanceRequest
from ucm.api.keys import (
    BackendStatus,
    KeyBackend,
    KeyCapability,
    KeyPurpose,
    KeyRecord,
    KeyRef,
    KeySpec,
    SignatureScheme,
    SigningKey,
)
from ucm.api.lint import Lint, LintFinding
from ucm.api.views import CaView

PLAN = Path(os.environ["KILLER_PLAN"])
watched = threading.local()


def step(label: str) -> None:
    """Note the step, or die there."""
    if not getattr(watched, "steps", None) or not PLAN.exists():
        return
    count = watched.steps
    watched.steps += 1
    plan = PLAN.read_text().strip()
    if not plan:
        with PLAN.with_suffix(".trace").open("a") as trace:
            trace.write(f"{count} {label}\n")
    elif int(plan) == count:
        PLAN.unlink()
        PLAN.with_suffix(".died").write_text(label)
        os.killpg(os.getpgid(0), signal.SIGKILL)


class FarKey:
    """A P-256 key at the far end."""

    def __init__(self, key: EllipticCurvePrivateKey) -> None:
        self._key = key

    def public_key(self) -> EllipticCurvePublicKey:
        return self._key.public_key()

    def sign(self, data: bytes, scheme: SignatureScheme) -> bytes:
        step("before the signature")
        signature = self._key.sign(data, ECDSA(SHA256()))
        with PLAN.with_suffix(".signed").open("a") as diary:
            diary.write(f"{data.hex()}\n")
        step("after the signature")
        return signature


class FarBackend:
    """Keys that are used over a network, as far as the core can tell."""

    kind = "killer-far"
    capabilities = frozenset({KeyCapability.SIGN})
    local = False

    def specs(self) -> Sequence[KeySpec]:
        return (KeySpec.EC_P256,)

    def generate(self, spec: KeySpec, *, label: str) -> KeyRecord:
        key = generate_private_key(SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        PLAN.with_suffix(".key").write_bytes(pem)
        return KeyRecord(self.kind, spec)

    @contextmanager
    def open(self, record: KeyRecord) -> Iterator[SigningKey]:
        key = load_pem_private_key(PLAN.with_suffix(".key").read_bytes(), None)
        assert isinstance(key, EllipticCurvePrivateKey)
        yield FarKey(key)

    def destroy(self, record: KeyRecord) -> None:
        PLAN.with_suffix(".key").unlink(missing_ok=True)

    def probe(self) -> BackendStatus:
        return BackendStatus(True)


class KillerPlugin:
    """Hooks at every step."""

    manifest = PluginManifest(
        name="killer",
        title="Killer",
        summary="Kills the server at a chosen step.",
        api=">=1.0,<2",
        table_prefix="killer_",
    )

    @hookimpl
    def ucm_start(self, ctx: PluginContext) -> None:
        event.listen(Engine, "before_cursor_execute", self.before_sql)
        event.listen(Engine, "commit", self.before_commit)

    @hookimpl
    def ucm_key_backends(self, ctx: PluginContext) -> Iterable[KeyBackend] | None:
        return [FarBackend()]

    @staticmethod
    def before_sql(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        step(f"before {' '.join(statement.split()[:3])}")

    @staticmethod
    def before_commit(connection: Any) -> None:
        step("before commit")

    @hookimpl
    def ucm_before_issue(
        self, request: IssuanceRequest, actor: Actor, ca: CaView | None
    ) -> Iterable[Denial | Hold] | None:
        if ca is not None and "watched" in request.description:
            watched.steps = 1
            step("ucm_before_issue")
        return None

    @hookimpl
    def ucm_amend_draft(
        self, draft: CertificateDraft, request: IssuanceRequest, ca: CaView | None
    ) -> DraftPatch | None:
        step("ucm_amend_draft")
        return None

    @hookimpl
    def ucm_check_draft(
        self, draft: CertificateDraft, request: IssuanceRequest, ca: CaView | None
    ) -> Iterable[Denial] | None:
        step("ucm_check_draft")
        return None

    @hookimpl
    def ucm_lints(self, ctx: PluginContext) -> Iterable[Lint] | None:
        def check(certificate: x509.Certificate, draft: CertificateDraft) -> list[LintFinding]:
            step("lint")
            return []

        return [Lint("killer_lint", "none", check)]

    @hookimpl
    def ucm_before_key_use(
        self, ref: KeyRef, purpose: KeyPurpose, actor: Actor
    ) -> Iterable[Denial] | None:
        step("ucm_before_key_use")
        return None

    @hookimpl
    def ucm_after_issue(self, event: CertificateIssued) -> None:
        step("ucm_after_issue")
        watched.steps = 0


plugin = KillerPlugin()
