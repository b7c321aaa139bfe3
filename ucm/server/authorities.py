"""Which authorities' client certificates pass the handshake, as the application's own set
changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from ucm.server.tls import TLSContexts

log = logging.getLogger("ucm.server")

PERIOD = 1.0
"""Seconds until every worker accepts the client certificates of a new authority."""


class ClientAuthorities:
    """Asks the application for its authorities and hands them to the TLS contexts.

    The question may go to a database, so it is asked on a thread, never during a handshake. While
    it fails, the set that was known stays.
    """

    def __init__(self, read: Callable[[], Iterable[bytes]], *, contexts: TLSContexts) -> None:
        self._read = read
        self._contexts = contexts
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ucm-authorities")
        self._failing = False

    async def refresh(self) -> None:
        """Ask once."""
        asked = asyncio.get_running_loop().run_in_executor(self._pool, self._read)
        await asyncio.wait([asked])
        error = asked.exception()
        if error is None:
            self._contexts.authorities = tuple(asked.result())
        elif not self._failing:
            log.error(
                "the authorities whose client certificates are accepted cannot be read; the known "
                "ones stay",
                exc_info=error,
            )
        self._failing = error is not None

    async def follow(self) -> None:
        """Ask for ever, until cancelled."""
        try:
            while True:
                await asyncio.sleep(PERIOD)
                await self.refresh()
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
