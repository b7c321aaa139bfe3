"""How lints read a certificate and report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from cryptography import x509

from ucm.api.issuance import CertificateDraft
from ucm.api.lint import Lint, LintFinding, Severity

Value = TypeVar("Value", bound=x509.ExtensionType)
Rule = Callable[[x509.Certificate, CertificateDraft], Iterable[str]]


def find(certificate: x509.Certificate, kind: type[Value]) -> x509.Extension[Value] | None:
    """The extension of a class, ``None`` when absent."""
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def lint(name: str, ref: str, rule: Rule) -> Lint:
    """A lint of severity error from a function that yields one sentence per breach."""

    def check(certificate: x509.Certificate, draft: CertificateDraft) -> Iterable[LintFinding]:
        return [
            LintFinding(name, Severity.ERROR, sentence, ref)
            for sentence in rule(certificate, draft)
        ]

    return Lint(name, ref, check)
