"""Lints: checks that run on a certificate signed by a throw-away key, before the real signature
exists.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

if TYPE_CHECKING:
    from ucm.api.issuance import CertificateDraft


class Severity(enum.Enum):
    """``ERROR`` stops issuance; the others are recorded with the certificate's audit row."""

    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One broken rule: name of the lint, what is wrong, and the rule's source (``RFC 5280
    4.1.2.2``).
    """

    lint: str
    severity: Severity
    detail: str
    ref: str = ""


LintCheck = Callable[[x509.Certificate, "CertificateDraft"], Iterable[LintFinding]]


@dataclass(frozen=True, slots=True)
class Lint:
    """A named check.
    ``check`` gets the lint certificate (final bytes but for the signature) and the draft.
    """

    name: str
    ref: str
    check: LintCheck
