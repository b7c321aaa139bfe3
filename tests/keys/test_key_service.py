"""Keys are found by identity and purpose, and never seen by the wrong plugin."""

import contextlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ucm.api.actor import Actor
from ucm.api.errors import Conflict, Forbidden, Invalid, KeyUnavailable, NotFound, Unsupported
from ucm.api.keys import KeyPurpose, KeyRef, KeySpec, SignatureScheme, SigningKey
from ucm.services.keys import KeyService, PluginKeys
from ucm.testing.contracts.key_backend import MESSAGE, verify

ACTOR = Actor.system("test")
P256 = KeySpec.EC_P256


class UndoneError(Exception):
    """Ends a unit without a commit."""


@pytest.fixture
def here(install):
    return install().start()


@pytest.fixture
def keys(here):
    return here.keys


def generate(here, *, purpose=KeyPurpose.SUBJECT, spec=P256, keys=None):
    with here.uow.begin(ACTOR) as tx:
        return (keys or here.keys).generate(spec, purpose=purpose, label="test", tx=tx)


def pkcs8(key):
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def test_a_generated_key_signs(here, keys):
    ref = generate(here, purpose=KeyPurpose.CA)
    with keys.open(ref) as key:
        assert isinstance(key, SigningKey)
        signature = key.sign(MESSAGE, SignatureScheme.ECDSA_SHA256)
        verify(key.public_key(), signature=signature, scheme=SignatureScheme.ECDSA_SHA256)
    assert keys.record(ref).spec is P256


def test_a_key_goes_with_the_unit_that_stored_it(here, keys):
    made = []
    with contextlib.suppress(UndoneError), here.uow.begin(ACTOR) as tx:
        made.append(keys.generate(P256, purpose=KeyPurpose.TLS, label="x", tx=tx))
        raise UndoneError
    with pytest.raises(NotFound):
        keys.record(made[0])


def test_made_outside_and_kept_inside_a_unit(here, keys):
    record = keys.make(P256, label="x")
    with keys.open_record(record) as key:
        spki = key.public_key()
    with here.uow.begin(ACTOR) as tx:
        ref = keys.keep(record, purpose=KeyPurpose.SUBJECT, label="x", tx=tx)
    with keys.open(ref) as key:
        assert key.public_key() == spki


def test_a_purpose_that_is_not_the_stored_one_finds_nothing(here, keys):
    ref = generate(here, purpose=KeyPurpose.CA)
    forged = KeyRef(ref.id, KeyPurpose.OCSP)
    for use in (keys.record, keys.export_key, lambda ref: keys.open(ref).__enter__()):
        with pytest.raises(NotFound):
            use(forged)
    with pytest.raises(NotFound), here.uow.begin(ACTOR) as tx:
        keys.destroy(forged, tx=tx)
    assert keys.record(ref)


def test_an_imported_key_is_the_same_key(here, keys):
    made = ec.generate_private_key(ec.SECP384R1())
    with here.uow.begin(ACTOR) as tx:
        ref = keys.import_key(pkcs8(made), purpose=KeyPurpose.SUBJECT, label="x", tx=tx)
    with keys.open(ref) as key:
        assert key.public_key() == made.public_key()
    assert keys.export_key(ref) == pkcs8(made)


@pytest.mark.parametrize("rubbish", [b"", b"rubbish", b"\x30\x82\xff\xff"])
def test_rubbish_is_not_imported(keys, rubbish):
    with pytest.raises(Invalid):
        keys.take(rubbish, label="x")


def test_a_destroyed_key_is_gone_once_the_unit_is_durable(here, keys):
    ref = generate(here)
    with keys.open(ref):
        pass
    with contextlib.suppress(UndoneError), here.uow.begin(ACTOR) as tx:
        keys.destroy(ref, tx=tx)
        raise UndoneError
    with keys.open(ref):
        pass
    with here.uow.begin(ACTOR) as tx:
        keys.destroy(ref, tx=tx)
    with pytest.raises(NotFound):
        keys.record(ref)
    assert not here.backend._opened


def test_a_key_that_a_request_still_uses_is_not_destroyed(here, keys):
    from ucm.store import tables

    ref = generate(here)
    now = here.stored()[0].created_at
    with here.uow.begin(ACTOR) as tx:
        tx.session.execute(
            tables.csr.insert().values(
                refid="r", subject="CN=x", key_type="EC-P256", source="test", created_by="test",
                san_dns=[], san_ip=[], san_email=[], san_uri=[], san_upn=[], spki_sha256="",
                key_id=ref.id, created_at=now, der=b"",
            )
        )  # fmt: skip
    with pytest.raises(Conflict), here.uow.begin(ACTOR) as tx:
        keys.destroy(ref, tx=tx)
    assert keys.record(ref)


def test_a_backend_that_is_not_running_is_said(here, keys):
    with pytest.raises(KeyUnavailable):
        keys.make(P256, label="x", backend="pkcs11")


class OnlySigns:
    """A backend without import and export, for one kind of key."""

    kind = "token"
    local = False
    capabilities = frozenset()

    def __init__(self, inner):
        self._inner = inner

    def specs(self):
        return (P256,)

    def generate(self, spec, *, label):
        return self._inner.generate(spec, label=label)

    def open(self, record):
        return self._inner.open(record)

    def destroy(self, record):
        self._inner.destroy(record)

    def probe(self):
        return self._inner.probe()


def test_what_a_backend_cannot_do_is_refused_with_what_it_can(here):
    token = OnlySigns(here.backend)
    keys = KeyService(uow=here.uow, backends=lambda kind: token, default_backend=lambda: "token")
    with pytest.raises(Unsupported) as refused:
        keys.make(KeySpec.RSA_2048, label="x")
    assert "EC-P256" in refused.value.hint
    with pytest.raises(Unsupported, match="takes no keys"):
        keys.take(b"", label="x")
    ref = generate(here, keys=keys)
    with pytest.raises(Unsupported, match="cannot be exported"):
        keys.export_key(ref)


# --- plugins -----------------------------------------------------------------------------------


def test_a_plugin_makes_uses_and_destroys_its_own_keys(here):
    mine = PluginKeys(here.keys, "scep")
    ref = generate(here, purpose=KeyPurpose.SCEP_RA, keys=mine)
    with mine.open(ref) as key:
        key.sign(MESSAGE, SignatureScheme.ECDSA_SHA256)
    assert mine.record(ref).spec is P256
    with here.uow.begin(ACTOR) as tx:
        kept = mine.keep(mine.make(P256, label="x"), purpose=KeyPurpose.TSA, label="x", tx=tx)
    assert mine.record(kept).spec is P256
    with here.uow.begin(ACTOR) as tx:
        mine.destroy(ref, tx=tx)
    with pytest.raises(NotFound):
        mine.record(ref)


def test_a_plugin_never_touches_the_key_of_an_authority(here):
    mine = PluginKeys(here.keys, "scep")
    ca = generate(here, purpose=KeyPurpose.CA)
    for use in (mine.open, mine.record):
        with pytest.raises(Forbidden):
            use(ca)
    with pytest.raises(Forbidden), here.uow.begin(ACTOR) as tx:
        mine.destroy(ca, tx=tx)
    with pytest.raises(Forbidden), here.uow.begin(ACTOR) as tx:
        mine.generate(P256, purpose=KeyPurpose.CA, label="x", tx=tx)
    made = mine.make(P256, label="x")
    with pytest.raises(Forbidden), here.uow.begin(ACTOR) as tx:
        mine.keep(made, purpose=KeyPurpose.CA, label="x", tx=tx)
    for purpose in KeyPurpose:
        if purpose is not KeyPurpose.CA:
            with pytest.raises(NotFound), mine.open(KeyRef(ca.id, purpose)):
                pass
    assert here.keys.record(ca)


def test_a_plugin_never_touches_the_keys_of_others(here):
    mine, other = PluginKeys(here.keys, "scep"), PluginKeys(here.keys, "tsa")
    ours = generate(here, purpose=KeyPurpose.TSA, keys=other)
    of_core = generate(here, purpose=KeyPurpose.SUBJECT)
    for ref in (ours, of_core):
        with pytest.raises(Forbidden, match="'scep'"):
            mine.record(ref)
        with pytest.raises(Forbidden), mine.open(ref):
            pass
        with pytest.raises(Forbidden), here.uow.begin(ACTOR) as tx:
            mine.destroy(ref, tx=tx)
    assert {key.ref.id: key.owner for key in here.stored()} == {ours.id: "tsa", of_core.id: "core"}
    with other.open(ours) as key:
        key.sign(MESSAGE, SignatureScheme.ECDSA_SHA256)
    with here.uow.begin(ACTOR) as tx:
        other.destroy(ours, tx=tx)
    assert here.keys.record(of_core)
