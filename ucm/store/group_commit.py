"""Group commit for SQLite: concurrent write units share one durable commit."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from ucm.api.errors import Busy, StorageFailed
from ucm.store.engine import BUSY_TIMEOUT, begins_itself, run
from ucm.store.write_queue import WriteQueue

_BUSY = "The database is busy: the write had to wait for too long, and nothing was changed."
_BUSY_HINT = "Try again. If it lasts, see which process writes to the database for so long."
_FAILED = "The database could not write; nothing of this operation was kept."
_FAILED_HINT = "Look at the free space and the health of the disk that holds the database."


class _Batch:
    """The units of one transaction: ``done`` is set when it is durable or has failed."""

    def __init__(self, connection: Connection, *, opened: float) -> None:
        self.connection = connection
        self.opened = opened
        self.units = 0
        self.kept = 0
        self.done = threading.Event()
        self.error: BaseException | None = None


class GroupCommit:
    """Runs the units of concurrent threads one after the other in one transaction.

    Each unit has a savepoint of its own, so one that fails takes nothing from the others. The unit
    after which nobody waits (or which meets a bound) commits for all; no unit returns earlier.
    One connection is handed from thread to thread: whoever holds the turn may use it.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        monotonic: Callable[[], float],
        max_units: int = 64,
        max_seconds: float = 0.02,
        patience: float = BUSY_TIMEOUT,
    ) -> None:
        self._engine = engine.execution_options(**begins_itself())
        self._monotonic = monotonic
        self._max_units = max_units
        self._max_seconds = max_seconds
        self._patience = patience
        self._slice = max_seconds
        self._entered: float | None = None
        self._queue = WriteQueue(Path(engine.url.database or ""), patience=patience)
        self._mutex = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()
        self._connection: Connection | None = None
        self._driver: sqlite3.Connection | None = None
        self._batch: _Batch | None = None

    @contextmanager
    def unit(self) -> Iterator[Connection]:
        """One unit. Raises ``Busy`` when its turn does not come, ``StorageFailed`` when the commit
        that it shares fails.
        """
        self._take_turn()
        try:
            batch = self._open_batch()
            connection = batch.connection
            self._execute("SAVEPOINT unit")
        except BaseException:
            self._end_turn()
            raise
        try:
            yield connection
            self._execute("RELEASE unit")
        except BaseException as error:
            self._undo_unit(batch)
            self._end_turn()
            if batch.error is not None and isinstance(error, sqlite3.Error):
                raise StorageFailed(_FAILED, hint=_FAILED_HINT) from error
            raise
        batch.kept += 1
        if not self._end_turn():
            batch.done.wait()
        if batch.error is not None:
            raise StorageFailed(_FAILED, hint=_FAILED_HINT) from batch.error

    def close(self) -> None:
        """Close the connection; the next unit opens another."""
        self._take_turn()
        try:
            self._drop_connection()
            self._queue.close()
            self._entered = None
        finally:
            self._end_turn()

    # --- the turn ---------------------------------------------------------------------------------

    def _take_turn(self) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            ticket = threading.Lock()
            ticket.acquire()
            self._waiting.append(ticket)
        granted = False
        try:
            granted = ticket.acquire(timeout=self._patience)
        finally:
            if not granted:
                self._give_up(ticket)
        if not granted:
            raise Busy(_BUSY, hint=_BUSY_HINT)

    def _give_up(self, ticket: threading.Lock) -> None:
        with self._mutex:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                return
        self._end_turn()  # the turn came in the same moment: pass it on

    def _end_turn(self) -> bool:
        """Pass the turn on, with the open transaction, or commit and pass it on.

        Returns whether the batch is settled. Called by the holder of the turn only.
        """
        batch = self._batch
        if batch is not None:
            batch.units += 1
            if not self._is_full(batch) and self._hand_over():
                return False
            self._commit(batch)
        self._pass_on()
        return True

    def _hand_over(self) -> bool:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
                return True
            return False

    def _pass_on(self) -> None:
        """Between batches: let other processes in when nobody waits here or the slice is over."""
        with self._mutex:
            entered = self._entered
            over = entered is not None and self._monotonic() - entered >= self._slice
            if entered is not None and (over or not self._waiting):
                self._queue.leave()
                self._entered = None
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False

    def _enter_queue(self) -> None:
        if self._entered is None:
            self._queue.enter()
            self._entered = self._monotonic()

    def _is_full(self, batch: _Batch) -> bool:
        return (
            batch.units >= self._max_units or self._monotonic() - batch.opened >= self._max_seconds
        )

    # --- the transaction; only the holder of the turn comes here ----------------------------------

    def _open_batch(self) -> _Batch:
        if self._batch is None:
            try:
                connection = self._connection or self._connect()
                self._enter_queue()
            except (DBAPIError, OSError) as error:
                self._drop_connection()
                raise StorageFailed(_FAILED, hint=_FAILED_HINT) from error
            try:
                run(connection, "BEGIN IMMEDIATE")
            except DBAPIError as error:
                self._drop_connection()
                if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                    raise Busy(_BUSY, hint=_BUSY_HINT) from error
                raise StorageFailed(_FAILED, hint=_FAILED_HINT) from error
            self._batch = _Batch(connection, opened=self._monotonic())
        return self._batch

    def _connect(self) -> Connection:
        """A connection in a transaction that SQLAlchemy believes to last, while the driver begins
        and ends one per batch: SQLAlchemy's own costs more than the insert that it guards."""
        connection = self._connection = self._engine.connect()
        connection.begin()
        self._driver = cast("sqlite3.Connection", connection.connection.driver_connection)
        return connection

    def _execute(self, statement: str) -> None:
        assert self._driver is not None  # noqa: S101 an open batch has a connection
        self._driver.execute(statement)

    def _undo_unit(self, batch: _Batch) -> None:
        try:
            self._execute("ROLLBACK TO unit")
            self._execute("RELEASE unit")
        except sqlite3.Error as error:
            # A full or broken disk makes SQLite roll everything back: the others have lost theirs.
            self._fail(batch, error)

    def _commit(self, batch: _Batch) -> None:
        assert self._driver is not None  # noqa: S101 an open batch has a connection
        try:
            if batch.kept:
                if listeners := batch.connection.dispatch.commit:
                    listeners(batch.connection)
                self._driver.commit()
            else:
                self._driver.rollback()
        except sqlite3.Error as error:
            self._fail(batch, error)
        else:
            self._batch = None
            batch.done.set()

    def _fail(self, batch: _Batch, error: BaseException) -> None:
        self._batch = None
        batch.error = error
        self._drop_connection()
        batch.done.set()

    def _drop_connection(self) -> None:
        connection, self._connection, self._driver = self._connection, None, None
        if connection is not None:
            connection.invalidate()
            connection.close()
