"""The master key of this installation: where it comes from, and whether it is the database's own.

The first place that has one counts: the system's key file (``/etc/ucm/master.key``), the
environment (``KEY_ENCRYPTION_KEY``, also from ``ucm.env``), the data directory's key file. Only a
database that holds no secret yet gets a new key, in the data directory. A canary in the database,
sealed under the master key, tells later whether a key is the right one.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import logging
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ucm.api.actor import Actor
from ucm.api.errors import Conflict, Invalid, SafeMode
from ucm.api.services import Target
from ucm.domain.sealing import Keyring, MasterKey, MasterKeys
from ucm.store import sealed
from ucm.store.uow import UnitOfWork

_log = logging.getLogger("ucm.masterkey")

_CANARY = b"this database belongs to this master key"
_ACTOR = Actor.system("master key")
_ADVICE = (
    "Put the master key of this database back (its file, or KEY_ENCRYPTION_KEY and a restart). Do"
    " not make another one: what is sealed opens only with its own key."
)


class KeySource(enum.Enum):
    """Where the master key in use comes from."""

    FILE = "file"
    ENVIRONMENT = "env"
    NONE = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyPlaces:
    """Where a master key may be, most important first."""

    system_file: Path
    environment: str | None = field(default=None, repr=False)
    data_file: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class MasterKeyState:
    """What health and the security page show. Fingerprints tell nothing about the keys."""

    source: KeySource
    path: Path | None
    fingerprint: str | None
    older_fingerprints: tuple[str, ...] = ()
    safe_mode_reason: str | None = None
    warning: str | None = None
    """The keys in memory still open what is sealed, but nothing new can be sealed."""

    @property
    def safe_mode(self) -> bool:
        """Whether nothing can be unsealed."""
        return self.safe_mode_reason is not None


class KeyFile:
    """A master key file: one key a line, newest first, readable by its owner only."""

    def __init__(self, path: Path, *, tighten: bool = True) -> None:
        """With ``tighten`` reading the file takes it from group and others first."""
        self.path = path
        self._tightens = tighten

    def stamp(self) -> tuple[int, int, int] | None:
        """Changes with every version of the file; `None` when there is none."""
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def read(self) -> MasterKeys:
        """The keys, after group and others lost their access to the file (see ``tighten``).

        Raises `Invalid` when it cannot be read or holds no keys.
        """
        try:
            if self._tightens:
                self._tighten()
            text = self.path.read_text(encoding="ascii")
        except OSError as error:
            raise Invalid(
                f"The master key file {self.path} cannot be read: {error.strerror}."
            ) from None
        except UnicodeDecodeError:
            raise Invalid(f"The master key file {self.path} does not hold keys.") from None
        try:
            return MasterKeys.parse(text)
        except Invalid as invalid:
            raise Invalid(f"The master key file {self.path}: {invalid.detail}") from None

    def _tighten(self) -> None:
        mode = stat.S_IMODE(self.path.stat().st_mode)
        if not mode & 0o077:
            return
        try:
            self.path.chmod(mode & 0o700)
        except OSError as error:
            # Read-only mounts of secrets cannot be changed from inside.
            _log.warning(
                "%s has mode %04o and cannot be tightened: %s", self.path, mode, error.strerror
            )
        else:
            _log.warning("%s had mode %04o; now only its owner may read it", self.path, mode)

    def create(self, keys: MasterKeys) -> bool:
        """Write a first file, whole and durable; `False` when another process was quicker."""
        with self._draft(keys) as draft:
            try:
                os.link(draft, self.path)
            except FileExistsError:
                return False
        self._sync_directory()
        return True

    def replace(self, keys: MasterKeys) -> None:
        """Exchange the file's content in one step, durably; its owner stays.

        Raises `Conflict` when the directory cannot be written (nothing was changed then).
        """
        try:
            with self._draft(keys) as draft:
                owner = self.path.stat()
                if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                    os.chown(draft, owner.st_uid, owner.st_gid)
                draft.replace(self.path)
        except OSError as error:
            raise Conflict(
                f"The master key file {self.path} cannot be replaced: {error.strerror}.",
                hint="The server's user must be able to write the file's directory. A file that is"
                " mounted by itself cannot be replaced: mount its directory.",
            ) from None
        self._sync_directory()

    @contextlib.contextmanager
    def _draft(self, keys: MasterKeys) -> Iterator[Path]:
        handle, name = tempfile.mkstemp(prefix=".master-key-", dir=self.path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(keys.render())
                file.flush()
                os.fsync(file.fileno())
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def _sync_directory(self) -> None:
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@dataclass(frozen=True, slots=True)
class _Found:
    source: KeySource
    file: KeyFile | None
    keys: MasterKeys | None
    problem: str | None = None


class MasterKeyService:
    """Keeps the master keys in memory, as the key file says at this moment.

    Before `start` nothing opens. A changed file (rotation in another process, a key put back) is
    seen at the next use. When the file vanishes or becomes wrong while UCM runs, the keys in memory
    still unseal, so that nothing is lost yet, but no longer seal. With ``inspecting`` neither a key
    nor its check value is made, and no file changes its mode.
    """

    def __init__(self, places: KeyPlaces, *, uow: UnitOfWork, inspecting: bool = False) -> None:
        self._system = KeyFile(places.system_file, tighten=not inspecting)
        self._data = KeyFile(places.data_file, tighten=not inspecting)
        self._inspecting = inspecting
        self._environment = places.environment
        self._uow = uow
        self._lock = threading.RLock()
        self._stamp: object = None
        self._keys: MasterKeys | None = None
        self._lock_path = places.data_file.with_name("master-key.lock")
        self._trouble: str | None = "The master key was not loaded yet."
        self._found = _Found(KeySource.NONE, None, None)
        self.keyring = Keyring(sealing=self._for_sealing, unsealing=self._for_unsealing)

    def __repr__(self) -> str:
        return f"<master key service, {self._found.source.value}>"

    def start(self) -> MasterKeyState:
        """Find the key and compare it with the database; a database without secrets gets one.

        Never raises for a missing or wrong key: the state says so, and using the keyring raises
        `SafeMode`.
        """
        with self._lock:
            self._stamp = self._stamps()
            self._found = self._find()
            with self._uow.read() as reader:
                canary = reader.secrets.canary()
                sample = canary.sealed if canary else sealed.any_sealed(reader.session)
            makes = not self._inspecting
            if makes and sample is None and self._found.source is KeySource.NONE:
                self._make_first_key()
            self._judge(sample)
            if makes and canary is None and self._keys is not None:
                self._adopt(self._keys)
            return self._state()

    def state(self) -> MasterKeyState:
        """What is known about the key now."""
        with self._lock:
            self._refresh()
            return self._state()

    def usable_keys(self) -> MasterKeys:
        """The keys that unseal. Raises `SafeMode`."""
        return self._for_unsealing()

    def sealing_keys(self) -> MasterKeys:
        """The keys, the first of which seals. Raises `SafeMode`."""
        return self._for_sealing()

    def file_in_use(self) -> KeyFile:
        """The key file. Raises `Conflict` when the key does not come from a file."""
        with self._lock:
            self._refresh()
            if self._found.file is None:
                raise Conflict(
                    "The master key does not come from a file.",
                    hint="Where KEY_ENCRYPTION_KEY is set, there the key is kept and changed.",
                )
            return self._found.file

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[Callable[[int, int], None]]:
        """Hold the right to change keys; of all processes of this machine one has it.

        Gives a function that notes the progress (done, total) for `change_in_progress`. Raises
        `Conflict` at once when another one has the right. May be left in another thread.
        """
        handle = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(handle)
            _note(handle, 0, 0)
            yield lambda done, total: _note(handle, done, total)
        finally:
            os.close(handle)

    def change_in_progress(self) -> tuple[int, int] | None:
        """How much (done, total) of a running change is made, whichever process makes it."""
        try:
            handle = os.open(self._lock_path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            done, _, total = os.pread(handle, 100, 0).decode("ascii").strip().partition("/")
            return int(done or 0), int(total or 0)
        else:
            return None
        finally:
            os.close(handle)

    # --- what the keyring asks ------------------------------------------------------------------

    def _for_unsealing(self) -> MasterKeys:
        if self._stamps() != self._stamp:
            with self._lock:
                self._refresh()
        if self._keys is None:
            raise SafeMode(self._trouble or "", hint=_ADVICE)
        return self._keys

    def _for_sealing(self) -> MasterKeys:
        keys = self._for_unsealing()
        if self._trouble is not None:
            raise SafeMode(self._trouble, hint=_ADVICE)
        return keys

    # --- finding and judging --------------------------------------------------------------------

    def _stamps(self) -> object:
        return self._system.stamp(), self._data.stamp()

    def _refresh(self) -> None:
        stamp = self._stamps()
        if stamp == self._stamp or self._stamp is None:
            return
        self._found = self._find()
        with self._uow.read() as reader:
            canary = reader.secrets.canary()
        self._judge(canary.sealed if canary else None)
        self._stamp = stamp  # last: a failed look is repeated

    def _find(self) -> _Found:
        if self._system.stamp() is not None:
            return self._read(self._system)
        if self._environment:
            try:
                keys = MasterKeys.parse(self._environment)
            except Invalid as invalid:
                return _Found(
                    KeySource.ENVIRONMENT, None, None, f"KEY_ENCRYPTION_KEY: {invalid.detail}"
                )
            return _Found(KeySource.ENVIRONMENT, None, keys)
        if self._data.stamp() is not None:
            return self._read(self._data)
        return _Found(KeySource.NONE, None, None)

    @staticmethod
    def _read(file: KeyFile) -> _Found:
        try:
            return _Found(KeySource.FILE, file, file.read())
        except Invalid as invalid:
            return _Found(KeySource.FILE, file, None, invalid.detail)

    def _judge(self, sample: str | None) -> None:
        """Take the keys that were found if they open `sample`, else keep what is in memory."""
        keys = self._found.keys
        if keys is None:
            self._trouble = self._found.problem or (
                f"This database holds sealed keys, and there is no master key: neither"
                f" {self._system.path} nor KEY_ENCRYPTION_KEY nor {self._data.path}."
            )
        elif sample is not None and not keys.opens(sample):
            self._trouble = (
                f"The master key {keys.newest.fingerprint} ({self._place()}) is not the one that"
                " this database's keys are sealed under."
            )
        else:
            self._keys, self._trouble = keys, None
            return
        _log.error("%s %s", self._trouble, _ADVICE)

    def _place(self) -> str:
        return str(self._found.file.path) if self._found.file else "KEY_ENCRYPTION_KEY"

    def _make_first_key(self) -> None:
        if self._data.create(MasterKeys([MasterKey.generate()])):
            _log.info("a new master key was made: %s. Keep a copy of it apart.", self._data.path)
        self._found = self._read(self._data)
        self._stamp = self._stamps()

    def _adopt(self, keys: MasterKeys) -> None:
        """Write the canary, unless another process did; then that one says which key is right."""
        newest = keys.newest
        with contextlib.suppress(Conflict), self._uow.begin(_ACTOR) as tx:
            tx.secrets.plant(fingerprint=newest.fingerprint, sealed=keys.seal(_CANARY))
            tx.audit(
                "master_key_created",
                target=Target("master_key", newest.fingerprint),
                source=self._found.source.value,
            )
        with self._uow.read() as reader:
            canary = reader.secrets.canary()
        if canary is not None and not keys.opens(canary.sealed):
            self._keys = None
            self._judge(canary.sealed)

    def _state(self) -> MasterKeyState:
        keys = self._keys
        return MasterKeyState(
            source=self._found.source,
            path=self._found.file.path if self._found.file else None,
            fingerprint=keys.newest.fingerprint if keys else None,
            older_fingerprints=tuple(key.fingerprint for key in keys.older) if keys else (),
            safe_mode_reason=self._trouble if keys is None else None,
            warning=self._trouble if keys is not None else None,
        )


def _lock(handle: int) -> None:
    # Whoever asks for the progress holds the lock for an instant: one refusal says nothing yet.
    for pause in (0.01, 0.05, 0.2, 0.0):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            threading.Event().wait(pause)
        else:
            return
    raise Conflict(
        "The master key is being changed already.",
        hint="Wait until the running rotation is done; its status shows how far it is.",
    )


def _note(handle: int, done: int, total: int) -> None:
    os.pwrite(handle, f"{done}/{total}".ljust(40).encode("ascii"), 0)  # one write: never seen torn
