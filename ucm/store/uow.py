"""The unit of work: the only place of UCM that begins and commits transactions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from ucm.api.actor import Actor
from ucm.api.errors import StorageFailed
from ucm.api.events import Event
from ucm.api.services import Clock, Ids, Target
from ucm.store import tables
from ucm.store.api_keys import ApiKeyRepository
from ucm.store.audit import AuditRepository
from ucm.store.cas import CaRepository
from ucm.store.certificates import CertificateRepository
from ucm.store.csrs import CsrRepository
from ucm.store.engine import READ_ONLY, driver_of, is_sqlite
from ucm.store.group_commit import GroupCommit
from ucm.store.groups import GroupRepository
from ucm.store.intents import IntentRepository
from ucm.store.jobs import JobRepository
from ucm.store.keys import KeyRepository
from ucm.store.outbox import OutboxRepository, event_payload
from ucm.store.own_tables import own_tables_session
from ucm.store.parsed import ParsedCertificates
from ucm.store.plugins import PluginRepository
from ucm.store.prepared import prepared_insert
from ucm.store.requests import HeldRequestRepository
from ucm.store.roles import RoleRepository
from ucm.store.scope import Scope
from ucm.store.secrets import CanaryRepository
from ucm.store.sessions import SessionRepository
from ucm.store.settings import SettingRepository
from ucm.store.snapshots import Snapshots
from ucm.store.templates import TemplateRepository
from ucm.store.users import UserRepository


class Repositories:
    """Every aggregate of the core, within one unit."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    @cached_property
    def cas(self) -> CaRepository:
        """Authorities."""
        return CaRepository(self._scope)

    @cached_property
    def certificates(self) -> CertificateRepository:
        """Certificates."""
        return CertificateRepository(self._scope)

    @cached_property
    def csrs(self) -> CsrRepository:
        """Stored certificate signing requests."""
        return CsrRepository(self._scope)

    @cached_property
    def templates(self) -> TemplateRepository:
        """Certificate templates."""
        return TemplateRepository(self._scope)

    @cached_property
    def keys(self) -> KeyRepository:
        """Records of private keys."""
        return KeyRepository(self._scope)

    @cached_property
    def intents(self) -> IntentRepository:
        """What is about to be signed."""
        return IntentRepository(self._scope)

    @cached_property
    def requests(self) -> HeldRequestRepository:
        """Requests that wait for a decision."""
        return HeldRequestRepository(self._scope)

    @cached_property
    def users(self) -> UserRepository:
        """Accounts."""
        return UserRepository(self._scope)

    @cached_property
    def sessions(self) -> SessionRepository:
        """Signed-in browsers."""
        return SessionRepository(self._scope)

    @cached_property
    def api_keys(self) -> ApiKeyRepository:
        """API keys."""
        return ApiKeyRepository(self._scope)

    @cached_property
    def roles(self) -> RoleRepository:
        """Roles."""
        return RoleRepository(self._scope)

    @cached_property
    def groups(self) -> GroupRepository:
        """Groups and their members."""
        return GroupRepository(self._scope)

    @cached_property
    def settings(self) -> SettingRepository:
        """Settings."""
        return SettingRepository(self._scope)

    @cached_property
    def audit_log(self) -> AuditRepository:
        """The audit trail, for reading; ``tx.audit`` writes it."""
        return AuditRepository(self._scope)

    @cached_property
    def outbox(self) -> OutboxRepository:
        """Events that wait for delivery; ``tx.emit`` writes them."""
        return OutboxRepository(self._scope)

    @cached_property
    def jobs(self) -> JobRepository:
        """Scheduled jobs, their leases and runs."""
        return JobRepository(self._scope)

    @cached_property
    def plugins(self) -> PluginRepository:
        """Plugin states."""
        return PluginRepository(self._scope)

    @cached_property
    def secrets(self) -> CanaryRepository:
        """Which master key this database belongs to."""
        return CanaryRepository(self._scope)


class Reader(Repositories):
    """A consistent read; the database refuses writes."""

    @cached_property
    def session(self) -> Session:
        """For an owner's own tables."""
        return Session(self._scope.connection, join_transaction_mode="create_savepoint")

    @cached_property
    def plugin_session(self) -> Session:
        """As ``session``, for a plugin: tables of the core are ``Forbidden``."""
        return own_tables_session(self._scope.connection)


class StoreTransaction(Repositories):
    """One write unit: state, audit rows and events commit together or not at all."""

    def __init__(
        self,
        scope: Scope,
        *,
        audit_actions: Callable[[str], bool],
        event_types: Callable[[str], bool],
    ) -> None:
        super().__init__(scope)
        self._audit_actions = audit_actions
        self._event_types = event_types
        self._audit_rows: list[dict[str, Any]] = []
        self._events: list[Event] = []
        self._calls: list[Callable[[], None]] = []

    @property
    def actor(self) -> Actor:
        """Who acts."""
        return self._scope.actor

    @cached_property
    def session(self) -> Session:
        """For an owner's own tables; its ``commit`` ends a savepoint, the unit's end keeps it."""
        return Session(self._scope.connection, join_transaction_mode="create_savepoint")

    @cached_property
    def plugin_session(self) -> Session:
        """As ``session``, for a plugin: tables of the core are ``Forbidden``."""
        return own_tables_session(self._scope.connection)

    def audit(self, action: str, *, target: Target, success: bool = True, **facts: Any) -> None:
        """Add an audit row. Facts are JSON-able and never secret.

        Raises ``LookupError`` for an action that nobody declared.
        """
        if not self._audit_actions(action):
            raise LookupError(f"audit action {action!r} is not declared (ucm_audit_actions)")
        actor = self._scope.actor
        self._audit_rows.append(
            {
                "timestamp": self._scope.clock.now(),
                "actor_kind": actor.kind.value,
                "username": actor.name,
                "user_id": actor.user_id,
                "action": action,
                "resource_type": target.type,
                "resource_id": None if target.id is None else str(target.id),
                "resource_name": target.name,
                "details": facts,
                "ip_address": actor.ip_address,
                "user_agent": actor.user_agent,
                "success": success,
                "prev_hash": None,
                "entry_hash": None,
            }
        )

    def emit(self, event: Event) -> None:
        """Add an outbox row; observers see the event after the commit.

        Raises ``LookupError`` for a type that nobody declared.
        """
        if not self._event_types(event.name):
            raise LookupError(f"event type {event.name!r} is not declared (ucm_event_types)")
        self._events.append(event)

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run ``call`` once the unit is durable, in this thread."""
        self._calls.append(call)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part that may fail alone: its rows, audit rows, events and calls go when it raises."""
        marks = len(self._audit_rows), len(self._events), len(self._calls)
        self._flush_session()
        with ExitStack() as undo:
            undo.callback(self._truncate, *marks)
            with self._scope.connection.begin_nested():
                yield
                self._flush_session()
            undo.pop_all()

    def _truncate(self, audit_rows: int, events: int, calls: int) -> None:
        del self._audit_rows[audit_rows:]
        del self._events[events:]
        del self._calls[calls:]

    def _flush_session(self) -> None:
        for session in _sessions(self):
            session.commit()

    def _finish(self) -> None:
        """Write what was collected; two statements however many rows."""
        self._flush_session()
        if self._audit_rows:
            _INSERT_AUDIT.execute_many(self._scope, self._audit_rows)
        if self._events:
            now = self._scope.clock.now()
            _INSERT_EVENT.execute_many(
                self._scope,
                [
                    {
                        "name": event.name,
                        "version": event.version,
                        "payload": event_payload(event),
                        "created_at": now,
                        **_UNDELIVERED,
                    }
                    for event in self._events
                ],
            )

    def _close(self) -> None:
        for session in _sessions(self):
            session.close()


class UnitOfWork:
    """Begins transactions on one engine. One per process; thread-safe.

    ``audit_actions`` and ``event_types`` say which names were declared; ``publish`` gets the events
    of a unit after its commit, in the unit's own thread.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Clock,
        ids: Ids,
        audit_actions: Callable[[str], bool],
        event_types: Callable[[str], bool],
        publish: Callable[[Sequence[Event]], None],
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._ids = ids
        self._audit_actions = audit_actions
        self._event_types = event_types
        self._publish = publish
        self._parsed = ParsedCertificates()
        self._thread = threading.local()
        self._group: GroupCommit | None = None
        self._snapshots: Snapshots | None = None
        self._readers = engine
        self._unit, self._snapshot = self._plain_unit, self._plain_snapshot
        if is_sqlite(engine):
            self._group = GroupCommit(engine, monotonic=clock.monotonic)
            self._snapshots = Snapshots(engine)
            self._unit, self._snapshot = self._group.unit, self._snapshots.open
        else:
            self._readers = engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True, **{READ_ONLY: True}
            )

    @contextmanager
    def begin(self, actor: Actor) -> Iterator[StoreTransaction]:
        """A write unit; the block's end returns when it is durable, an exception undoes it.

        Raises ``Busy`` or ``StorageFailed``, and ``RuntimeError`` within another unit of the same
        thread: pass the transaction on instead.
        """
        if getattr(self._thread, "writing", False):
            raise RuntimeError("a write unit is already open in this thread: pass its transaction")
        self._thread.writing = True
        try:
            with self._unit() as connection:
                tx = StoreTransaction(
                    self._scope(connection, actor),
                    audit_actions=self._audit_actions,
                    event_types=self._event_types,
                )
                try:
                    yield tx
                    tx._finish()
                finally:
                    tx._close()
        finally:
            self._thread.writing = False
        self._after(tx)

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """A consistent read: one snapshot from the first statement to the end of the block."""
        with self._snapshot() as connection:
            reader = Reader(self._scope(connection, _NOBODY))
            try:
                yield reader
            finally:
                for session in _sessions(reader):
                    session.close()

    def close(self) -> None:
        """Close the write connection and the pool."""
        if self._group is not None:
            self._group.close()
        if self._snapshots is not None:
            self._snapshots.close()
        self._engine.dispose()

    @contextmanager
    def _plain_snapshot(self) -> Iterator[Connection]:
        with _connected(self._readers) as connection, connection.begin() as transaction:
            try:
                yield connection
            finally:
                transaction.rollback()

    @contextmanager
    def _plain_unit(self) -> Iterator[Connection]:
        with _connected(self._engine) as connection:
            transaction = connection.begin()
            try:
                yield connection
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except (OperationalError, InterfaceError) as error:
                raise StorageFailed(
                    "The database could not commit; nothing of this operation was kept.",
                    hint="Look at the database server's log.",
                ) from error

    def _scope(self, connection: Connection, actor: Actor) -> Scope:
        driver = driver_of(connection)
        return Scope(connection, self._clock, self._ids, actor, self._parsed, driver)

    def _after(self, tx: StoreTransaction) -> None:
        with ExitStack() as calls:  # each is made, even after one that raised
            if tx._events:
                calls.callback(self._publish, tuple(tx._events))
            for call in reversed(tx._calls):
                calls.callback(call)


_SESSIONS = ("session", "plugin_session")


def _sessions(unit: Reader | StoreTransaction) -> list[Session]:
    """Those that were asked for, the last one first: its savepoint lies within the others'."""
    return [each for name, each in reversed(unit.__dict__.items()) if name in _SESSIONS]


_NOBODY = Actor.system("reader")
_INSERT_AUDIT = prepared_insert(tables.audit)
_INSERT_EVENT = prepared_insert(tables.outbox)
_UNDELIVERED = {"delivered_at": None, "attempts": 0, "last_error": ""}


@contextmanager
def _connected(engine: Engine) -> Iterator[Connection]:
    try:
        connection = engine.connect()
    except (OperationalError, InterfaceError) as error:
        raise StorageFailed(
            "The database cannot be reached.",
            hint="Check UCM_DATABASE_URL and that the database server is running.",
        ) from error
    with connection:
        yield connection
