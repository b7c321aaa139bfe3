"""The files of the server's TLS certificate in the data directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class TLSFiles:
    """``<data_dir>/tls/server.crt`` (PEM chain, leaf first) and ``server.key`` (PEM, 0600).

    ``configured`` is the operator's own certificate, which takes their place when it is set.
    """

    def __init__(self, data_dir: Path, *, configured: Path | None = None) -> None:
        self.configured = configured
        self.certificate = data_dir / "tls" / "server.crt"
        self.key = data_dir / "tls" / "server.key"

    @contextmanager
    def replacing(self, *, chain_pem: bytes, key_pem: bytes) -> Iterator[None]:
        """Put a pair in place of the present one when the block ends, each file in one step, the
        key first; a block that raises changes nothing.

        Both are on the disk before the block begins, so that little can fail at its end. A server
        that reads between the two steps keeps the pair it has. Raises ``OSError``.
        """
        folder = self.key.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # two at once could leave a mixed pair
            with self._written(chain_pem, key_pem):
                yield
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _written(self, chain_pem: bytes, key_pem: bytes) -> Iterator[None]:
        new_key = _written(self.key, key_pem, mode=0o600)
        new_chain = _written(self.certificate, chain_pem, mode=0o644)
        try:
            yield
            new_key.replace(self.key)
            new_chain.replace(self.certificate)
        finally:
            new_key.unlink(missing_ok=True)
            new_chain.unlink(missing_ok=True)


def _written(path: Path, content: bytes, *, mode: int) -> Path:
    """A new file beside ``path``, durable."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return new
