"""How the core's lints read a certificate and report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509

from ucm.api.issuance import CertificateDraft
from ucm.api.keys import KeySpec
from ucm.api.lint import LintFinding, Severity
from ucm.api.publickeys import load_spki, spec_of
from ucm.api.x509 import key_usage_names

Value = TypeVar("Value", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Reading:
    """A lint certificate, taken apart once for all lints."""

    certificate: x509.Certificate
    draft: CertificateDraft
    tbs: bytes
    issuer: bytes
    """The name that the issuer must have, DER."""
    oids: tuple[x509.ObjectIdentifier, ...]
    usages: frozenset[str]
    purposes: tuple[str, ...]
    key_spec: KeySpec | None
    found: dict[type, x509.Extension[x509.ExtensionType]]

    def find(self, kind: type[Value]) -> x509.Extension[Value] | None:
        """The extension of a class, ``None`` when absent."""
        return self.found.get(kind)  # type: ignore[return-value]  # the key is its value's class


def read(
    certificate: x509.Certificate, draft: CertificateDraft, *, issuer: bytes | None = None
) -> Reading:
    """Take a certificate apart. ``issuer`` is its authority's subject, the draft's when not given.

    Raises ``x509.DuplicateExtension`` or ``ValueError`` when it cannot be read.
    """
    extensions = certificate.extensions
    found: dict[type, x509.Extension[x509.ExtensionType]] = {type(e.value): e for e in extensions}
    values = {kind: extension.value for kind, extension in found.items()}
    usage = values.get(x509.KeyUsage)
    purposes = values.get(x509.ExtendedKeyUsage)
    return Reading(
        certificate=certificate,
        draft=draft,
        tbs=certificate.tbs_certificate_bytes,
        issuer=draft.issuer.public_bytes() if issuer is None else issuer,
        oids=tuple(e.oid for e in extensions),
        usages=key_usage_names(usage) if isinstance(usage, x509.KeyUsage) else frozenset(),
        purposes=tuple(oid.dotted_string for oid in purposes)
        if isinstance(purposes, x509.ExtendedKeyUsage)
        else (),
        key_spec=spec_of(load_spki(draft.public_key)),
        found=found,
    )


@dataclass(frozen=True, slots=True)
class CoreLint:
    """A rule of the core: ``rule`` yields one sentence per breach. Every breach is an error."""

    name: str
    ref: str
    rule: Callable[[Reading], Iterable[str]]

    def finding(self, sentence: str) -> LintFinding:
        """A breach."""
        return LintFinding(self.name, Severity.ERROR, sentence, self.ref)
