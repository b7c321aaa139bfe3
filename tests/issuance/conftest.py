"""An installation without a web: the real store, the real software keys, and the pipeline."""

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ucm.api.actor import Actor, ActorKind
from ucm.api.csr import parse_csr
from ucm.api.issuance import CAParameters, IssuanceRequest, Origin
from ucm.api.keys import KeyPurpose, KeySpec
from ucm.api.names import build_subject, parse_general_names
from ucm.api.publickeys import spki_der
from ucm.api.views import CaPublication
from ucm.domain.audit_actions import is_core_action
from ucm.domain.sealing import MasterKey, MasterKeys
from ucm.issuance.custody import Custody
from ucm.issuance.lint import Linter
from ucm.issuance.pipeline import Pipeline
from ucm.issuance.profiles import Profiles
from ucm.issuance.signer import Signer
from ucm.runtime.clock import SystemIds
from ucm.store.cas import NewCa
from ucm.store.engine import create_engine
from ucm.store.migrate import upgrade_core
from ucm.store.uow import UnitOfWork
from ucm.testing.fakes import FakeClock

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
ADMIN = Actor(
    kind=ActorKind.USER, name="alice", user_id=None, role="admin", permissions=frozenset({"*"})
)


@dataclass
class OpenGuards:
    """Guards that let everything pass and can be told otherwise."""

    answers: list = field(default_factory=list)
    patches: list = field(default_factory=list)
    last_words: list = field(default_factory=list)
    revocation_denials: list = field(default_factory=list)
    key_denials: list = field(default_factory=list)
    missing: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def require(self, operation):
        if operation in self.missing:
            raise self.missing[operation]

    def before_issue(self, request, actor, ca):
        self.asked.append("before_issue")
        return [a(request) if callable(a) else a for a in self.answers if a is not None]

    def amend_draft(self, draft, request, ca):
        self.asked.append("amend_draft")
        return list(self.patches)

    def check_draft(self, draft, request, ca):
        self.asked.append("check_draft")
        return list(self.last_words)

    def before_revoke(self, request, actor, certificate):
        return list(self.revocation_denials)

    def before_key_use(self, ref, purpose, actor):
        self.asked.append("before_key_use")
        return list(self.key_denials)


class CountingBackend:
    """The software backend, counting what really gets signed."""

    def __init__(self, inner, *, local=True):
        self.inner = inner
        self.local = local
        self.signatures = 0
        self.fail = None
        self._lock = threading.Lock()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def open(self, record):
        from contextlib import contextmanager

        @contextmanager
        def opened():
            with self.inner.open(record) as key:
                yield _Counted(key, self)

        return opened()


class _Counted:
    def __init__(self, key, backend):
        self.key = key
        self.backend = backend

    def public_key(self):
        return self.key.public_key()

    def sign(self, data, scheme):
        if self.backend.fail is not None:
            raise self.backend.fail
        with self.backend._lock:
            self.backend.signatures += 1
        return self.key.sign(data, scheme)


class Installation:
    """Everything that issuing needs, and short ways to make authorities and requests."""

    def __init__(self, url):
        from ucm_softkeys.backend import SoftKeyBackend

        self.engine = create_engine(url)
        self.clock = FakeClock(NOW)
        self.ids = SystemIds()
        self.guards = OpenGuards()
        self.lints = []
        self.extensions = []
        self.published = []
        self.backend = CountingBackend(SoftKeyBackend(MasterKeys([MasterKey.generate()])))
        self.uow = UnitOfWork(
            self.engine,
            clock=self.clock,
            ids=self.ids,
            audit_actions=is_core_action,
            event_types=lambda name: True,
            publish=self.published.extend,
        )
        self.contributed = []
        self.pipeline = Pipeline(
            uow=self.uow,
            guards=self.guards,
            signer=Signer(Custody(lambda kind: self.backend), self.guards),
            linter=Linter(lambda: self.lints),
            profiles=Profiles(lambda: self.contributed),
            clock=self.clock,
            ids=self.ids,
            extensions=lambda: self.extensions,
        )

    def close(self):
        self.uow.close()

    # --- authorities ---------------------------------------------------------------------------

    def new_key(self, spec=KeySpec.EC_P256):
        record = self.backend.inner.generate(spec, label="test")
        with self.backend.inner.open(record) as key:
            return record, spki_der(key.public_key())

    def a_ca(
        self,
        name="Test CA",
        *,
        spec=KeySpec.EC_P256,
        parent=None,
        parameters=None,
        days=None,
        publication=None,
        digest="auto",
        profile=None,
    ):
        """Issue and store an authority, a root without ``parent``; returns its view."""
        record, spki = self.new_key(spec)
        stored = {}

        def on_stored(tx, issued):
            view = tx.certificates.get(issued.id)
            stored["ca"] = tx.cas.add(
                NewCa(
                    refid=self.ids.new_id(),
                    name=name,
                    certificate_id=issued.id,
                    parent_id=parent.id if parent else None,
                    key=view.key,
                    digest=digest,
                    path_length=parameters.path_length if parameters else None,
                    publication=publication or CaPublication(),
                )
            )

        request = IssuanceRequest(
            origin=Origin("api"),
            ca_id=parent.id if parent else None,
            profile=profile or ("intermediate-ca" if parent else "root-ca"),
            public_key=spki,
            new_key=record,
            subject=build_subject([("O", "Example"), ("CN", name)]),
            names=(),
            ca_parameters=parameters or CAParameters(),
            validity=timedelta(days=days) if days else None,
        )
        self.pipeline.issue(request, actor=ADMIN, on_stored=on_stored)
        return self.ca(stored["ca"])

    def self_renewal(self, ca, *, new_key=False, **more):
        """A request of a root for its next certificate, with its own key or with a new one."""
        record, spki = self.new_key() if new_key else (None, spki_der(ca.certificate.public_key()))
        return IssuanceRequest(
            origin=Origin("renewal"),
            ca_id=None,
            profile="root-ca",
            public_key=spki,
            key=None if new_key else ca.key,
            new_key=record,
            subject=ca.certificate.subject,
            names=(),
            ca_parameters=CAParameters(),
            renews=ca.certificate_id,
            **more,
        )

    def ca(self, ca_id):
        with self.uow.read() as reader:
            return reader.cas.get(ca_id)

    def imported_ca(self, certificate, key, *, name="Imported", parent=None):
        """Store an authority that was made elsewhere, with its key."""
        from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat

        from ucm.api.names import subject_text
        from ucm.api.publickeys import spki_sha256
        from ucm.api.x509 import fingerprint, serial_text
        from ucm.store.certificates import NewCertificate

        der = certificate.public_bytes(Encoding.DER)
        pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        with self.uow.begin(ADMIN) as tx:
            ref = tx.keys.add(
                self.backend.inner.import_key(pkcs8, label=name), purpose=KeyPurpose.CA
            )
            certificate_id = tx.certificates.add(
                NewCertificate(
                    refid=self.ids.new_id(),
                    description=name,
                    ca_id=parent.id if parent else None,
                    serial=serial_text(certificate.serial_number),
                    subject=subject_text(certificate.subject),
                    common_name=name,
                    issuer=subject_text(certificate.issuer),
                    not_before=certificate.not_valid_before_utc,
                    not_after=certificate.not_valid_after_utc,
                    key_type="EC-P256",
                    signature_algorithm="ecdsa-with-SHA256",
                    thumbprint_sha256=fingerprint(der),
                    thumbprint_sha1=fingerprint(der, algorithm="sha1"),
                    spki_sha256=spki_sha256(spki_der(certificate.public_key())),
                    cert_type="root_ca",
                    source="import",
                    key_id=ref.id,
                    is_ca=True,
                    state="imported",
                    der=der,
                )
            )
            ca_id = tx.cas.add(
                NewCa(
                    refid=self.ids.new_id(),
                    name=name,
                    certificate_id=certificate_id,
                    parent_id=parent.id if parent else None,
                    key=ref,
                    imported_from="file",
                )
            )
        return self.ca(ca_id)

    # --- requests ------------------------------------------------------------------------------

    def request(self, ca, csr=None, *, profile="server", origin="api", **more):
        """A request for a CSR (bytes), by default one for www.example.com."""
        if csr is None and "public_key" not in more:
            csr = a_csr()
        return IssuanceRequest(
            origin=Origin(origin),
            ca_id=ca.id if ca else None,
            profile=profile,
            csr=parse_csr(csr) if isinstance(csr, bytes) else csr,
            **more,
        )

    def issue(self, ca, csr=None, *, actor=ADMIN, on_stored=None, **more):
        """Issue and return the parsed certificate."""
        issued = self.pipeline.issue(
            self.request(ca, csr, **more), actor=actor, on_stored=on_stored
        )
        return x509.load_der_x509_certificate(issued.der)

    # --- what was kept -------------------------------------------------------------------------

    def signatures_during(self):
        """How many real signatures the block makes: ``with ... as made: ...; made()``."""
        from contextlib import contextmanager

        @contextmanager
        def block():
            before = self.backend.signatures
            yield lambda: self.backend.signatures - before

        return block()

    def audit(self, action=None):
        """Audit rows, oldest first, as plain mappings."""
        from sqlalchemy import select

        from ucm.store import tables

        with self.engine.connect() as connection:
            rows = connection.execute(select(tables.audit).order_by(tables.audit.c.id)).mappings()
            return [dict(row) for row in rows if action is None or row["action"] == action]

    def count(self, table):
        from sqlalchemy import func, select

        with self.engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(table)).scalar_one()


def enrollee(protocol="scep", client="device-1"):
    return Actor.protocol(protocol, client)


def a_key(kind="ec"):
    match kind:
        case "ec" | "EC-P256":
            return ec.generate_private_key(ec.SECP256R1())
        case "EC-P384":
            return ec.generate_private_key(ec.SECP384R1())
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return rsa.generate_private_key(65537, 2048)


def a_csr(subject="CN=www.example.com", *, san=("dns:www.example.com",), key=None, extensions=()):
    """A DER request; ``subject`` is a comma-separated list of ``short=value``."""
    key = key or a_key()
    pairs = [pair.split("=", 1) for pair in subject.split(",") if pair]
    oids = {
        "CN": NameOID.COMMON_NAME,
        "O": NameOID.ORGANIZATION_NAME,
        "C": NameOID.COUNTRY_NAME,
        "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
        "emailAddress": NameOID.EMAIL_ADDRESS,
    }
    name = x509.Name(
        [x509.NameAttribute(oids[short], value, _validate=False) for short, value in pairs]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if san:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(parse_general_names(san)), critical=False
        )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.DER)


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


def present(certificate, kind):
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def ekus(certificate):
    return [oid.dotted_string for oid in extension(certificate, x509.ExtendedKeyUsage).value]


def codes(error):
    """Codes of the denials that a ``pytest.raises`` block caught."""
    return {denial.code for denial in error.value.denials}


def ku(certificate):
    from ucm.api.x509 import key_usage_names

    return key_usage_names(extension(certificate, x509.KeyUsage).value)


def raw(certificate, oid):
    """The extension's value as it stands in the certificate."""
    from asn1crypto import x509 as asn1_x509

    parsed = asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
    for item in parsed["tbs_certificate"]["extensions"]:
        if item["extn_id"].dotted == oid.dotted_string:
            return bytes(item["extn_value"])
    return None


def foreign_ca(name="Foreign", *, ski=None, subject=None, add=()):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
    )
    if ski:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(ski), critical=False)
    for value, critical in add:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(key, hashes.SHA256()), key


def _migrate(url):
    engine = create_engine(url)
    upgrade_core(engine)
    engine.dispose()


@pytest.fixture
def place(databases, database_dialect):
    """An installation with an empty database."""
    url = databases.prepared(database_dialect, label="core-migrated", prepare=_migrate)
    installation = Installation(url)
    yield installation
    installation.close()
    databases.discard(url)


@pytest.fixture
def root(place):
    return place.a_ca("Test Root")


@pytest.fixture
def issuing(place, root):
    return place.a_ca("Test Issuing", parent=root, parameters=CAParameters(path_length=0))
