"""A migrated database of each kind, and a unit of work on it that records what it publishes."""

import dataclasses
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ucm.api.actor import Actor, ActorKind
from ucm.store import migrate
from ucm.store.cas import NewCa
from ucm.store.engine import create_engine
from ucm.store.uow import UnitOfWork
from ucm.testing.bulk import a_certificate
from ucm.testing.fakes import FakeClock, SequenceIds

AUDIT_ACTIONS = frozenset({"certificate_created", "cert_revoked"})


def _migrate(url):
    engine = create_engine(url)
    migrate.upgrade_core(engine)
    engine.dispose()


@pytest.fixture
def store_url(databases, database_dialect):
    """A migrated, empty database of this test's own."""
    url = databases.prepared(database_dialect, label="store", prepare=_migrate)
    yield url
    databases.discard(url)


@pytest.fixture
def engine(store_url):
    made = create_engine(store_url)
    yield made
    made.dispose()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def operator():
    """Somebody with everything that an audit row can tell of an actor."""
    return Actor(
        kind=ActorKind.USER,
        name="olga",
        user_id=7,
        ip_address="192.0.2.9",
        user_agent="tests/1.0",
        permissions=frozenset({"*"}),
    )


@pytest.fixture
def make_uow(clock):
    """Units of work on an engine; they know two audit actions and the events ``certificate.*``."""
    made = []

    def make(engine, publish=lambda events: None):
        uow = UnitOfWork(
            engine,
            clock=clock,
            ids=SequenceIds(),
            audit_actions=AUDIT_ACTIONS.__contains__,
            event_types=lambda name: name.startswith("certificate."),
            publish=publish,
        )
        made.append(uow)
        return uow

    yield make
    for uow in made:
        uow.close()


@pytest.fixture
def published():
    """What ``uow`` published."""
    return []


@pytest.fixture
def uow(make_uow, engine, published):
    return make_uow(engine, published.extend)


@pytest.fixture(scope="session")
def ca_der():
    """A self-signed certificate."""
    now = FakeClock().now()
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=3650))
        .sign(key, None)
    )
    return certificate.public_bytes(Encoding.DER)


@pytest.fixture
def certificate(clock):
    """Rows of certificates: the same number gives the same one."""

    def make(number, **changes):
        return a_certificate(number, now=clock.now(), der=b"der", **changes)

    return make


@pytest.fixture
def add_ca(certificate, ca_der):
    """Authorities with a certificate row of their own."""

    def add(tx, number=900_000, *, own=None, **changes):
        row = certificate(number, is_ca=True, state="imported", **(own or {}))
        certificate_id = tx.certificates.add(dataclasses.replace(row, der=ca_der))
        fields = {
            "refid": f"ca-{number}",
            "name": f"CA {number}",
            "certificate_id": certificate_id,
            "parent_id": None,
            "key": None,
        }
        return tx.cas.add(NewCa(**{**fields, **changes}))

    return add
