"""A database with its data directory and master key, as a server process has it; nothing else of
UCM.

Run as a program it is such a process of its own: ``python installation.py <directory> <url>
<command>``.
"""

import contextlib
import sys
import time
from datetime import timedelta
from pathlib import Path

from ucm_softkeys.backend import SoftKeyBackend

from ucm.api.actor import Actor
from ucm.api.errors import KeyUnavailable
from ucm.api.keys import KeyPurpose, KeySpec, SignatureScheme
from ucm.domain.audit_actions import is_core_action
from ucm.domain.sealing import OwnedSealer
from ucm.runtime.clock import SystemClock, SystemIds
from ucm.services.encryption import EncryptionService, SealOwners
from ucm.services.keys import KeyService
from ucm.services.masterkey import KeyPlaces, MasterKeyService
from ucm.services.rotation import KeyRotation
from ucm.store.engine import create_engine
from ucm.store.uow import UnitOfWork

ACTOR = Actor.system("test")


class Installation:
    """`start` is left to the test."""

    def __init__(self, directory, url, *, environment=None, grace=0.0, wait=None):
        self.directory = Path(directory)
        self.url = url
        self.system_file = self.directory / "etc" / "master.key"
        self.data_file = self.directory / "data" / "master.key"
        for folder in (self.system_file.parent, self.data_file.parent):
            folder.mkdir(parents=True, exist_ok=True)
        clock = SystemClock()
        self.uow = UnitOfWork(
            create_engine(url),
            clock=clock,
            ids=SystemIds(),
            audit_actions=is_core_action,
            event_types=lambda name: True,
            publish=lambda events: None,
        )
        self.master_key = MasterKeyService(
            KeyPlaces(
                system_file=self.system_file, environment=environment, data_file=self.data_file
            ),
            uow=self.uow,
        )
        self.sealer = OwnedSealer(self.master_key.keyring, "softkeys")
        self.backend = SoftKeyBackend(self.sealer)
        self.keys = KeyService(uow=self.uow, backends=self._backend)
        self.encryption = EncryptionService(
            uow=self.uow,
            master_key=self.master_key,
            open_record=self.keys.open_record,
            owners=SealOwners(of_backend=self._owner, of_table=self._owner),
        )
        self.rotation = KeyRotation(
            uow=self.uow,
            master_key=self.master_key,
            clock=clock,
            grace=timedelta(seconds=grace),
            wait=wait,
        )

    def _backend(self, kind):
        if kind != self.backend.kind:
            raise KeyUnavailable(f"no backend {kind}")
        return self.backend

    def _owner(self, kind):
        if kind not in ("softkeys", "acme_account"):
            raise KeyUnavailable(f"no plugin for {kind}")
        return kind.partition("_")[0]

    def start(self):
        self.master_key.start()
        return self

    def close(self):
        self.uow.close()

    def make_keys(self, number, *, spec=KeySpec.ED25519, purpose=KeyPurpose.SUBJECT):
        records = [self.keys.make(spec, label=f"key {n}") for n in range(number)]
        with self.uow.begin(ACTOR) as tx:
            return [
                self.keys.keep(record, purpose=purpose, label="test", tx=tx) for record in records
            ]

    def stored(self):
        with self.uow.read() as reader:
            return list(reader.keys.all())

    def use_every_key(self):
        """Sign with every stored key, afresh from its sealed text; return how many there are."""
        backend = SoftKeyBackend(self.sealer, cache_size=0)
        stored = self.stored()
        for key in stored:
            with backend.open(key.record) as opened:
                assert opened.sign(b"data", SignatureScheme.ED25519)
        return len(stored)

    def audited(self):
        with self.uow.read() as reader:
            return [(row.action, dict(row.details)) for row in audit_rows(reader)]


def audit_rows(reader):
    from sqlalchemy import select

    from ucm.store import tables

    return reader.session.execute(select(tables.audit).order_by(tables.audit.c.id)).all()


def rotate(installation):
    """Rotate slowly, a line per batch, so that somebody can kill this process in the middle."""

    def progress(done, total):
        print(done, total, flush=True)
        time.sleep(0.02)

    installation.rotation.rotate(actor=ACTOR, progress=progress)
    print("finished", flush=True)


def work(installation):
    """Make, use and keep keys until stdin closes, as a second server process does."""
    import select

    print("working", flush=True)
    made = []
    while not select.select([sys.stdin], [], [], 0)[0]:
        made.extend(installation.make_keys(1))
        for ref in made[-3:]:
            record = installation.keys.record(ref)
            installation.backend.destroy(record)  # out of the cache: unseal it every time
            with installation.keys.open(ref) as key:
                key.sign(b"data", SignatureScheme.ED25519)
    print(len(made), flush=True)


def locked(installation):
    """Hold the right to change keys until stdin closes."""
    with installation.master_key.exclusive() as note:
        note(3, 10)
        print("locked", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    directory, url, command = sys.argv[1:]
    grace = 1.0 if command == "rotate" else 0.0
    with contextlib.closing(Installation(directory, url, grace=grace).start()) as here:
        {"rotate": rotate, "work": work, "locked": locked}[command](here)
