"""Sealing of secrets for the database: Fernet (AES-128-CBC with HMAC-SHA256) under the master key.

There may be several master keys while a rotation runs: the newest seals, every one unseals.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from ucm.api.errors import Forbidden, Invalid, KeyUnavailable
from ucm.api.services import Sealer

PREFIX = "ENC:"
"""What every sealed text starts with."""

_OWNED = b"ucm sealed for\0"


def is_sealed(text: str) -> bool:
    """Whether a text claims to be sealed; only `unseal` can tell whether it is."""
    return text.startswith(PREFIX)


def _token(sealed: str) -> bytes:
    # Text beyond ASCII would raise ValueError; as bytes it is an invalid token like any other.
    return sealed.removeprefix(PREFIX).encode("ascii", "replace")


class MasterKey:
    """One Fernet key: 32 random bytes, written as 44 characters of URL-safe base64.

    `fingerprint` names the key without telling anything about it. Raises `Invalid` for a text that
    is no Fernet key.
    """

    __slots__ = ("_encoded", "_fernet", "fingerprint")

    def __init__(self, encoded: str) -> None:
        try:
            raw = base64.urlsafe_b64decode(encoded)
            self._fernet = Fernet(base64.urlsafe_b64encode(raw))
        except ValueError:
            raise Invalid(
                "A master key must be 32 bytes in URL-safe base64 (44 characters).",
                hint="`ucm` makes one by itself; the security page's generate-key gives another.",
            ) from None
        self._encoded = base64.urlsafe_b64encode(raw).decode("ascii")
        self.fingerprint = hashlib.sha256(b"ucm master key\0" + raw).hexdigest()[:16]

    @classmethod
    def generate(cls) -> MasterKey:
        """A new random key."""
        return cls(Fernet.generate_key().decode("ascii"))

    def __repr__(self) -> str:
        return f"<master key {self.fingerprint}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MasterKey) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def reveal(self) -> str:
        """The key itself, for its file or its owner; never for a log or a response but that one."""
        return self._encoded

    @property
    def fernet(self) -> Fernet:
        """The cipher."""
        return self._fernet


class MasterKeys:
    """Master keys, newest first; at least one. Immutable."""

    __slots__ = ("_multi", "keys")

    def __init__(self, keys: Iterable[MasterKey]) -> None:
        self.keys = tuple(dict.fromkeys(keys))
        if not self.keys:
            raise Invalid("A master key file must hold at least one key.")
        self._multi = MultiFernet([key.fernet for key in self.keys])

    @classmethod
    def parse(cls, text: str) -> MasterKeys:
        """Read a key file or an environment variable: keys apart by white space or commas.

        Newest first; a line that starts with ``#`` is a comment. Raises `Invalid` and says which
        key is wrong, without showing it.
        """
        lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
        words = " ".join(lines).replace(",", " ").split()
        keys = []
        for number, word in enumerate(words, start=1):
            try:
                keys.append(MasterKey(word))
            except Invalid as invalid:
                raise Invalid(f"Key {number}: {invalid.detail}", hint=invalid.hint) from None
        return cls(keys)

    def __repr__(self) -> str:
        return f"<master keys {', '.join(key.fingerprint for key in self.keys)}>"

    @property
    def newest(self) -> MasterKey:
        """The key that seals."""
        return self.keys[0]

    @property
    def older(self) -> tuple[MasterKey, ...]:
        """Keys that only unseal; a rotation is unfinished while there are any."""
        return self.keys[1:]

    def render(self) -> str:
        """The text of the key file: one key a line, newest first."""
        return "".join(f"{key.reveal()}\n" for key in self.keys)

    def preceded_by(self, key: MasterKey) -> MasterKeys:
        """These keys below a new one."""
        return MasterKeys((key, *self.keys))

    def without_older(self) -> MasterKeys:
        """The newest key alone."""
        return MasterKeys((self.newest,))

    def seal(self, secret: bytes) -> str:
        """`ENC:` and a Fernet token under the newest key."""
        return PREFIX + self.newest.fernet.encrypt(secret).decode("ascii")

    def unseal(self, sealed: str) -> bytes:
        """The secret. Raises `KeyUnavailable` when none of the keys opens the text."""
        if not is_sealed(sealed):
            raise KeyUnavailable(
                "This secret is stored without encryption, and UCM uses sealed secrets only.",
                hint="Run encrypt-all-keys on the security page.",
            )
        try:
            return self._multi.decrypt(_token(sealed))
        except InvalidToken:
            raise KeyUnavailable(
                "This secret is damaged or was sealed under another master key.",
                hint="Restore the row from a backup, or add the key it was sealed under as a"
                " further line of the master key file.",
            ) from None

    def opens(self, sealed: str) -> bool:
        """Whether one of the keys opens the text."""
        try:
            self.unseal(sealed)
        except KeyUnavailable:
            return False
        return True

    def is_current(self, sealed: str) -> bool:
        """Whether the text is sealed under the newest key."""
        try:
            self.newest.fernet.decrypt(_token(sealed))
        except InvalidToken:
            return False
        return True

    def reseal(self, sealed: str) -> str:
        """The same secret under the newest key. Raises `KeyUnavailable` as `unseal` does."""
        return self.seal(self.unseal(sealed))


class Keyring:
    """Implements `ucm.api.services.Sealer` with the master keys of the moment.

    `sealing` and `unsealing` give the keys, or raise `SafeMode`; they are asked at every use, so
    that a rotation in another process is seen at once.
    """

    __slots__ = ("_sealing", "_unsealing")

    def __init__(
        self, *, sealing: Callable[[], MasterKeys], unsealing: Callable[[], MasterKeys]
    ) -> None:
        self._sealing = sealing
        self._unsealing = unsealing

    def __repr__(self) -> str:
        return "<keyring>"

    def seal(self, secret: bytes) -> str:
        """`ENC:` and a Fernet token. Raises `SafeMode`."""
        return self._sealing().seal(secret)

    def unseal(self, sealed: str) -> bytes:
        """The secret. Raises `SafeMode`, or `KeyUnavailable` when this one text does not open."""
        return self._unsealing().unseal(sealed)


class OwnedSealer:
    """Implements `ucm.api.services.Sealer` for one plugin, over the core's own sealer.

    The owner's name is sealed together with the secret, so neither the core's secrets nor another
    plugin's open here, and a rotation of the master key, which seals the whole again, keeps the
    name. The core seals its own secrets without one.
    """

    __slots__ = ("_owner", "_prefix", "_sealer")

    def __init__(self, sealer: Sealer, owner: str) -> None:
        self._sealer = sealer
        self._owner = owner
        self._prefix = _OWNED + owner.encode() + b"\0"

    def __repr__(self) -> str:
        return f"<sealer of {self._owner}>"

    def seal(self, secret: bytes) -> str:
        """`ENC:` and a Fernet token. Raises `SafeMode`."""
        return self._sealer.seal(self._prefix + secret)

    def unseal(self, sealed: str) -> bytes:
        """The secret. Raises `Forbidden` when another owner sealed it, and what the core's sealer
        raises.
        """
        secret = self._sealer.unseal(sealed)
        if not secret.startswith(self._prefix):
            raise Forbidden(
                f"This secret was not sealed by the plugin {self._owner!r}.",
                hint="A plugin unseals what its own ctx.sealer sealed, and nothing else.",
            )
        return secret[len(self._prefix) :]
