"""Opens private keys for the signer and for nobody else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from ucm.api.keys import KeyBackend, KeyRecord, SigningKey


class Custody:
    """Finds the backend of a key record. ``backends`` raises ``KeyUnavailable`` or
    ``PluginUnavailable`` for a kind that is not running.
    """

    def __init__(self, backends: Callable[[str], KeyBackend]) -> None:
        self._backends = backends

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def open(self, record: KeyRecord) -> AbstractContextManager[SigningKey]:
        """Use a key. Raises ``KeyUnavailable`` or ``SafeMode`` when it cannot be used now."""
        return self._backends(record.backend).open(record)

    def is_local(self, record: KeyRecord) -> bool:
        """Whether signing is in-process and quick."""
        return self._backends(record.backend).local
