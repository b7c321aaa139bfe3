"""Units of work as plugins get them: their own tables, audit, events, and nothing of the core's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from sqlalchemy.orm import Session

from ucm.api.actor import Actor
from ucm.api.events import Event
from ucm.api.services import OnStored, Target, Transaction
from ucm.store.uow import Reader, StoreTransaction


class Units(Protocol):
    """What begins the core's units."""

    def begin(self, actor: Actor) -> AbstractContextManager[StoreTransaction]:
        """A write unit."""
        ...

    def read(self) -> AbstractContextManager[Reader]:
        """A consistent read."""
        ...


class PluginTransaction:
    """Implements `ucm.api.services.Transaction` over one of the core's."""

    __slots__ = ("_tx",)

    def __init__(self, tx: StoreTransaction) -> None:
        self._tx = tx

    @property
    def actor(self) -> Actor:
        """Who acts."""
        return self._tx.actor

    @property
    def session(self) -> Session:
        """For the owner's own tables; statements that name tables of the core are `Forbidden`."""
        return self._tx.plugin_session

    def audit(self, action: str, *, target: Target, success: bool = True, **facts: Any) -> None:
        """Add an audit row. Raises ``LookupError`` for an action that nobody declared."""
        self._tx.audit(action, target=target, success=success, **facts)

    def emit(self, event: Event) -> None:
        """Add an outbox row. Raises ``LookupError`` for a type that nobody declared."""
        self._tx.emit(event)

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run ``call`` once the unit is durable, in this thread."""
        self._tx.after_commit(call)


class PluginReader:
    """Implements `ucm.api.services.Reader` over one of the core's."""

    __slots__ = ("_reader",)

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @property
    def session(self) -> Session:
        """For the owner's own tables; statements that name tables of the core are `Forbidden`."""
        return self._reader.plugin_session


class PluginUnitOfWork:
    """Implements `ucm.api.services.UnitOfWork` for plugins."""

    def __init__(self, uow: Units) -> None:
        self._uow = uow

    @contextmanager
    def begin(self, actor: Actor) -> Iterator[PluginTransaction]:
        """A write unit. Raises what the core's raises."""
        with self._uow.begin(actor) as tx:
            yield PluginTransaction(tx)

    @contextmanager
    def read(self) -> Iterator[PluginReader]:
        """A consistent read."""
        with self._uow.read() as reader:
            yield PluginReader(reader)


def of_plugin(on_stored: OnStored | None) -> OnStored | None:
    """A plugin's callback, which gets its transaction as a plugin's."""
    if on_stored is None:
        return None
    return lambda tx, issued: on_stored(PluginTransaction(store_transaction(tx)), issued)


def store_transaction(tx: Transaction) -> StoreTransaction:
    """The core's unit behind a plugin's, or the core's own as it is.

    Raises ``TypeError`` for a transaction that is not of this store.
    """
    if isinstance(tx, PluginTransaction):
        return tx._tx
    if isinstance(tx, StoreTransaction):
        return tx
    raise TypeError("keys are stored in a unit that UnitOfWork.begin() opened")
