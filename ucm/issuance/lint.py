"""Pre-issuance lint: the very bytes that will be signed, signed by a throw-away key and examined.

Only this module makes signing tickets, and the signer takes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from cryptography import x509

from ucm.api.errors import LintFailed
from ucm.api.issuance import CertificateDraft
from ucm.api.lint import Lint, LintFinding, Severity
from ucm.issuance.builder import ThrowawayKeys, build
from ucm.issuance.lints import CORE_LINTS, read

_MADE_BY_LINTER = object()


class SigningTicket:
    """Permission to sign one linted certificate once. Made by ``Linter.examine`` only."""

    __slots__ = ("_tbs", "draft", "findings", "lint_certificate")

    def __init__(
        self,
        maker: object,
        *,
        draft: CertificateDraft,
        lint_certificate: x509.Certificate,
        findings: tuple[LintFinding, ...],
    ) -> None:
        if maker is not _MADE_BY_LINTER:
            raise TypeError("signing tickets are made by the linter")
        self.draft = draft
        self.lint_certificate = lint_certificate
        self.findings = findings
        self._tbs: list[bytes] = [lint_certificate.tbs_certificate_bytes]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing ticket cannot be copied")

    def __copy__(self) -> NoReturn:
        raise TypeError("a signing ticket cannot be copied")

    def redeem(self) -> bytes:
        """The bytes to sign. Raises ``RuntimeError`` the second time."""
        try:
            return self._tbs.pop()
        except IndexError:
            raise RuntimeError("this signing ticket was already used") from None

    @property
    def tbs(self) -> bytes:
        """The bytes that were linted, for the record of an unfinished issuance."""
        return self.lint_certificate.tbs_certificate_bytes


class Linter:
    """Runs the core's lints and those of running plugins."""

    def __init__(self, lints: Callable[[], Sequence[Lint]] = tuple) -> None:
        self._lints = lints
        self._keys = ThrowawayKeys()

    def examine(self, draft: CertificateDraft, *, issuer: bytes | None = None) -> SigningTicket:
        """Lint a draft; ``issuer`` is the authority's subject, DER. Raises ``LintFailed`` with
        every finding when one is an error.

        A lint that raises stops issuance with its own error: what could not be checked is not
        signed.
        """
        certificate = build(draft, self._keys.key_for(draft.scheme))
        try:
            reading = read(certificate, draft, issuer=issuer)
        except (ValueError, x509.DuplicateExtension) as error:
            unreadable = f"the certificate cannot be read back: {error}"
            finding = LintFinding("readable", Severity.ERROR, unreadable, "RFC 5280 4.1")
            raise LintFailed([finding]) from None
        findings = [lint.finding(breach) for lint in CORE_LINTS for breach in lint.rule(reading)]
        for lint in self._lints():
            findings.extend(lint.check(certificate, draft))
        if any(finding.severity is Severity.ERROR for finding in findings):
            raise LintFailed(findings)
        return SigningTicket(
            _MADE_BY_LINTER,
            draft=draft,
            lint_certificate=certificate,
            findings=tuple(findings),
        )
