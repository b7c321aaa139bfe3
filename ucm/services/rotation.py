"""Rotation of the master key without a pause.

The new key is put in front of the old one in the key file, every secret is sealed again under it,
and the old key leaves the file when nothing is sealed under it any more; then the canary takes the
new key's name. While it has another one than the newest key, the rotation is unfinished, and
whoever runs it next goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from ucm.api.actor import Actor
from ucm.api.errors import Conflict, KeyUnavailable, UcmError
from ucm.api.services import Clock, Target
from ucm.domain.sealing import MasterKey, MasterKeys, is_sealed
from ucm.services.encryption import batches
from ucm.services.masterkey import KeySource, MasterKeyService
from ucm.store import sealed
from ucm.store.sealed import SealedColumn, SealedValue
from ucm.store.uow import UnitOfWork

_log = logging.getLogger("ucm.rotation")

GRACE = timedelta(seconds=30)
"""How long a thread or process may keep a sealed secret before it commits or reads it again."""

Progress = Callable[[int, int], None]
"""Told how many secrets were looked at, and how many there are."""


class RotationState(enum.Enum):
    """Whether the master key is being exchanged."""

    IDLE = "idle"
    RUNNING = "running"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, kw_only=True, slots=True)
class RotationStatus:
    """`done` of `total` secrets are looked at in the running pass, `None` when none runs."""

    state: RotationState
    fingerprint: str | None
    older_fingerprints: tuple[str, ...] = ()
    done: int | None = None
    total: int | None = None
    error: str | None = None


@dataclass(slots=True)
class _Pass:
    """One walk over every secret."""

    total: int
    done: int = 0
    resealed: int = 0
    unopened: int = 0
    stopped: bool = False


class KeyRotation:
    """One at a time on a machine; killed at any point, it leaves keys that open every secret.

    Servers on several machines that share a database must all know the new key before the first one
    seals under it: put it below the present key into every key file, then above it in every file,
    and start the rotation on one of them, which makes no key of its own then.
    """

    def __init__(
        self,
        *,
        uow: UnitOfWork,
        master_key: MasterKeyService,
        clock: Clock,
        grace: timedelta = GRACE,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._uow = uow
        self._master_key = master_key
        self._clock = clock
        self._grace = grace.total_seconds()
        self._wait = wait or threading.Event().wait
        self._error: str | None = None

    def status(self) -> RotationStatus:
        """How far the rotation is, whichever process of this machine runs it."""
        key = self._master_key.state()
        running = self._master_key.change_in_progress()
        if running is not None:
            state = RotationState.RUNNING
        elif self._is_unfinished(key.fingerprint):
            state = RotationState.UNFINISHED
        else:
            state = RotationState.IDLE
        done, total = running or (None, None)
        return RotationStatus(
            state=state,
            fingerprint=key.fingerprint,
            older_fingerprints=key.older_fingerprints,
            done=done,
            total=total,
            error=self._error,
        )

    def rotate(
        self,
        *,
        actor: Actor,
        progress: Progress | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> RotationStatus:
        """Make a new key, or take up an unfinished rotation, and see it through.

        Returns early, unfinished, when `stopping` turns true. Raises `SafeMode`, and `Conflict`
        when another rotation runs or the key cannot be changed from here.
        """
        with self._master_key.exclusive() as note:

            def shown(done: int, total: int) -> None:
                note(done, total)
                if progress is not None:
                    progress(done, total)

            self._run(self._begin(actor), actor=actor, progress=shown, stopping=stopping)
        return self.status()

    def start(self, *, actor: Actor) -> RotationStatus:
        """As `rotate`, but the work goes on in a thread after the new key is in place."""
        held = contextlib.ExitStack()
        with held:
            note = held.enter_context(self._master_key.exclusive())
            keys = self._begin(actor)
            held = held.pop_all()
        threading.Thread(
            target=self._run_and_release,
            args=(held, keys, actor, note),
            name="master-key-rotation",
            daemon=True,  # a killed rotation goes on later
        ).start()
        return self.status()

    def resume(
        self,
        *,
        progress: Progress | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Finish a rotation that was cut off, if there is one; for the scheduler."""
        key = self._master_key.state()
        if key.source is not KeySource.FILE or key.warning:
            return
        if self._is_unfinished(key.fingerprint) and self._master_key.change_in_progress() is None:
            self.rotate(actor=Actor.system("rotation"), progress=progress, stopping=stopping)

    # --- the steps ------------------------------------------------------------------------------

    def _begin(self, actor: Actor) -> MasterKeys:
        keys = self._master_key.sealing_keys()
        if self._is_unfinished(keys.newest.fingerprint):
            return keys
        if self._master_key.state().source is KeySource.ENVIRONMENT:
            raise Conflict(
                "The master key comes from KEY_ENCRYPTION_KEY, which UCM cannot change.",
                hint="Set KEY_ENCRYPTION_KEY to the new key, a comma and the old key, restart,"
                " and start the rotation again; afterwards remove the old key.",
            )
        keys = keys.preceded_by(MasterKey.generate())
        self._master_key.file_in_use().replace(keys)
        with self._uow.begin(actor) as tx:
            tx.audit(
                "master_key_rotation_started",
                target=Target("master_key", keys.newest.fingerprint),
                older=[key.fingerprint for key in keys.older],
            )
        return keys

    def _is_unfinished(self, newest: str | None) -> bool:
        with self._uow.read() as reader:
            canary = reader.secrets.canary()
        return newest is not None and canary is not None and canary.fingerprint != newest

    def _run_and_release(
        self, held: contextlib.ExitStack, keys: MasterKeys, actor: Actor, note: Progress
    ) -> None:
        self._error = None
        with held:
            try:
                self._run(keys, actor=actor, progress=note, stopping=lambda: False)
            except UcmError as error:
                self._error = error.detail
                _log.error("the rotation of the master key stopped: %s", error.detail)
                return

    def _run(
        self,
        keys: MasterKeys,
        *,
        actor: Actor,
        progress: Progress,
        stopping: Callable[[], bool],
    ) -> None:
        """Walk over the secrets until a walk that began after the grace time finds nothing to do.

        Until then another thread may still commit what it sealed before it saw the new key, or
        hold a record that it read before that was sealed again.
        """
        settled = self._clock.monotonic() + self._grace
        resealed = 0
        while True:
            begun = self._clock.monotonic()
            walk = self._walk(keys, progress=progress, stopping=stopping)
            if walk.stopped:
                return
            if walk.resealed:
                resealed += walk.resealed
                settled = self._clock.monotonic() + self._grace
            if begun >= settled and not walk.resealed:
                break
            while (left := settled - self._clock.monotonic()) > 0:
                if stopping():
                    return
                self._wait(min(left, 0.5))
        self._finish(keys, actor=actor, resealed=resealed, unopened=walk.unopened)

    def _walk(self, keys: MasterKeys, *, progress: Progress, stopping: Callable[[], bool]) -> _Pass:
        with self._uow.read() as reader:
            columns = sealed.sealed_columns(reader.session)
            counts = [sealed.count(reader.session, column) for column in columns]
        walk = _Pass(total=sum(count.sealed + count.plain for count in counts))
        for column in columns:
            for values in batches(self._uow, column):
                self._reseal(keys, column, values, walk)
                progress(walk.done, walk.total)
                if stopping():
                    walk.stopped = True
                    return walk
        return walk

    def _reseal(
        self, keys: MasterKeys, column: SealedColumn, values: list[SealedValue], walk: _Pass
    ) -> None:
        changes: list[tuple[SealedValue, str]] = []
        for value in values:
            if is_sealed(value.text) and not keys.is_current(value.text):
                try:
                    changes.append((value, keys.reseal(value.text)))
                except KeyUnavailable:
                    walk.unopened += 1
                    _log.warning("%s, row %s opens with no key", column.name, value.key)
        if changes:
            with self._uow.begin(_ACTOR) as tx:
                for value, text in changes:
                    walk.resealed += sealed.replace(tx.session, column, value, new=text)
        walk.done += len(values)

    def _finish(self, keys: MasterKeys, *, actor: Actor, resealed: int, unopened: int) -> None:
        self._drop_older(keys)
        with self._uow.begin(actor) as tx:
            tx.secrets.rename(fingerprint=keys.newest.fingerprint)
            tx.audit(
                "master_key_rotated",
                target=Target("master_key", keys.newest.fingerprint),
                older=[key.fingerprint for key in keys.older],
                resealed=resealed,
                unopened=unopened,
            )

    def _drop_older(self, keys: MasterKeys) -> None:
        if self._master_key.state().source is not KeySource.FILE:
            _log.warning("remove the older keys from KEY_ENCRYPTION_KEY: nothing needs them now")
            return
        file = self._master_key.file_in_use()
        if file.read().keys != keys.keys:
            raise Conflict(
                f"The key file {file.path} was changed during the rotation.",
                hint="Look at the file, then start the rotation again.",
            )
        file.replace(keys.without_older())


_ACTOR = Actor.system("rotation")
