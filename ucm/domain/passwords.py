"""Passwords of people: Argon2id hashes (RFC 9106) and the rules for new ones."""

from __future__ import annotations

import string
import threading
from dataclasses import dataclass

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from ucm.api.errors import FieldError
from ucm.domain.settings import GeneralSettings

SPECIAL_CHARACTERS = "!@#$%^&*()_+-=[]{}|;:,.<>?"
MAXIMUM_INPUT = 4096
"""Longer inputs are refused before any work is spent on them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PasswordRules:
    """What a new password must be; the lengths count characters."""

    minimum_length: int = 8
    maximum_length: int = 128
    uppercase: bool = True
    lowercase: bool = True
    digit: bool = True
    special: bool = True

    def sentences(self) -> list[str]:
        """The rules for people."""
        rules = [f"{self.minimum_length} to {self.maximum_length} characters"]
        if self.uppercase:
            rules.append("at least one upper-case letter")
        if self.lowercase:
            rules.append("at least one lower-case letter")
        if self.digit:
            rules.append("at least one digit")
        if self.special:
            rules.append(f"at least one of {SPECIAL_CHARACTERS}")
        rules.append("not the user name, nor a text that contains it")
        return rules

    def violations(self, password: str, *, username: str, pointer: str) -> list[FieldError]:
        """Every broken rule, so that one answer names all that must change."""
        checks = [
            (
                len(password) >= self.minimum_length,
                "password-too-short",
                f"A password has at least {self.minimum_length} characters.",
            ),
            (
                len(password) <= self.maximum_length,
                "password-too-long",
                f"A password has at most {self.maximum_length} characters.",
            ),
            (
                not self.uppercase or any(c.isupper() for c in password),
                "password-needs-uppercase",
                "A password contains an upper-case letter.",
            ),
            (
                not self.lowercase or any(c.islower() for c in password),
                "password-needs-lowercase",
                "A password contains a lower-case letter.",
            ),
            (
                not self.digit or any(c in string.digits for c in password),
                "password-needs-digit",
                "A password contains a digit.",
            ),
            (
                not self.special or any(c in SPECIAL_CHARACTERS for c in password),
                "password-needs-special",
                f"A password contains one of {SPECIAL_CHARACTERS}",
            ),
            (
                not username or username.lower() not in password.lower(),
                "password-contains-username",
                "A password does not contain the user name.",
            ),
        ]
        return [FieldError(pointer, code, detail) for holds, code, detail in checks if not holds]


class PasswordHasher:
    """Argon2id with a bound on how many hashes run at once, because each needs its memory.

    The defaults are 19 MiB, two passes, one lane: the smallest of the settings that RFC 9106's
    memory-hard argument still carries for interactive sign-in on a small server.
    """

    def __init__(
        self, *, memory_kib: int = 19_456, passes: int = 2, lanes: int = 1, at_once: int = 4
    ) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=passes, memory_cost=memory_kib, parallelism=lanes
        )
        self._slots = threading.BoundedSemaphore(at_once)
        self._decoy: str | None = None

    def hash(self, password: str) -> str:
        """The PHC string of the password, salted."""
        with self._slots:
            return self._argon2.hash(password)

    def verify(self, stored: str, *, password: str) -> bool:
        """Whether the password belongs to the stored hash."""
        try:
            with self._slots:
                return self._argon2.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    def verify_nobody(self, password: str) -> None:
        """Do the work of ``verify`` for an account that does not exist.

        Without it the time of the answer says which user names exist.
        """
        if self._decoy is None:
            self._decoy = self.hash("no account has this password")
        self.verify(self._decoy, password=password)

    def needs_rehash(self, stored: str) -> bool:
        """Whether the hash was made with other costs than today's."""
        try:
            return self._argon2.check_needs_rehash(stored)
        except InvalidHashError:
            return True


def rules_of(settings: GeneralSettings) -> PasswordRules:
    """The rules that the settings in force ask for."""
    return PasswordRules(
        minimum_length=settings.min_password_length,
        maximum_length=settings.max_password_length,
        uppercase=settings.password_require_uppercase,
        lowercase=settings.password_require_lowercase,
        digit=settings.password_require_numbers,
        special=settings.password_require_special,
    )
