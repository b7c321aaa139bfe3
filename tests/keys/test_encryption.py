"""How much is sealed, and sealing of what still lies in clear."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Column, Integer, MetaData, Table, Text, select, text

from ucm.api.actor import Actor
from ucm.api.errors import Conflict, KeyUnavailable, SafeMode
from ucm.api.keys import KeyPurpose, KeyRecord, KeySpec
from ucm.domain.sealing import OwnedSealer
from ucm.testing.contracts.key_backend import secret_forms

ACTOR = Actor.system("test")


def private_key():
    return ec.generate_private_key(ec.SECP256R1())


def encoded(key, *, encoding=serialization.Encoding.DER):
    return key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def as_pem(key):
    return encoded(key, encoding=serialization.Encoding.PEM).decode()


def as_base64_of_pem(key):
    return base64.b64encode(as_pem(key).encode()).decode()


def as_base64_of_der(key):
    return base64.b64encode(encoded(key)).decode()


def store_plain(here, plain, *, spec=KeySpec.EC_P256):
    with here.uow.begin(ACTOR) as tx:
        record = KeyRecord(backend="softkeys", spec=spec, sealed=plain)
        return tx.keys.add(record, purpose=KeyPurpose.SUBJECT, label="plain")


@pytest.fixture
def here(install):
    return install().start()


def test_the_status_counts_sealed_and_plain_keys(here):
    here.make_keys(3)
    store_plain(here, as_pem(private_key()))
    status = here.encryption.status()
    assert status.columns["core_key.sealed"].sealed == 3
    assert status.columns["core_key.sealed"].plain == 1
    assert status.unencrypted_count == 1
    assert status.encrypted_count == 3
    assert status.key.path == here.data_file


def test_the_status_is_there_in_safe_mode(install):
    install().start().make_keys(2)
    here = install()
    here.data_file.unlink()
    here.start()
    status = here.encryption.status()
    assert status.key.safe_mode
    assert status.encrypted_count == 2


@pytest.mark.parametrize("form", [as_pem, as_base64_of_pem, as_base64_of_der])
def test_a_plain_key_is_sealed_and_works_afterwards(here, form):
    key = private_key()
    ref = store_plain(here, form(key))
    with pytest.raises(KeyUnavailable, match="without encryption"), here.keys.open(ref):
        pass
    result = here.encryption.encrypt_all(dry_run=False, actor=ACTOR)
    assert (result.encrypted, result.errors) == (1, ())
    assert here.keys.record(ref).sealed.startswith("ENC:")
    with here.keys.open(ref) as opened:
        assert opened.public_key() == key.public_key()
    assert here.keys.export_key(ref) == encoded(key)


def test_a_dry_run_says_the_same_and_changes_nothing(here):
    here.make_keys(2)
    refs = [store_plain(here, as_pem(private_key())) for _ in range(3)]
    before, audited = here.stored(), here.audited()
    result = here.encryption.encrypt_all(dry_run=True, actor=ACTOR)
    assert (result.dry_run, result.encrypted, result.skipped) == (True, 3, 2)
    assert (here.stored(), here.audited()) == (before, audited)
    real = here.encryption.encrypt_all(dry_run=False, actor=ACTOR)
    assert (real.encrypted, real.skipped, real.errors) == (3, 2, ())
    again = here.encryption.encrypt_all(dry_run=False, actor=ACTOR)
    assert (again.encrypted, again.skipped) == (0, 5)
    assert len({here.keys.record(ref).sealed for ref in refs}) == 3


def test_it_is_audited_with_numbers(here):
    store_plain(here, as_pem(private_key()))
    here.encryption.encrypt_all(dry_run=False, actor=ACTOR)
    assert here.audited()[-1] == ("system_encrypt", {"encrypted": 1, "skipped": 0, "errors": 0})


@pytest.mark.parametrize("rubbish", ["rubbish", "", "-----BEGIN PRIVATE KEY-----\nAA=="])
def test_rubbish_is_named_and_left_alone(here, rubbish):
    ref = store_plain(here, rubbish)
    good = store_plain(here, as_pem(private_key()))
    result = here.encryption.encrypt_all(dry_run=False, actor=ACTOR)
    assert result.encrypted == 1
    (error,) = result.errors
    assert error.startswith(f"core_key.sealed, row {ref.id}: neither sealed nor a usable")
    assert here.keys.record(ref).sealed == rubbish
    with here.keys.open(good):
        pass


def test_a_key_of_another_kind_than_its_row_says_is_not_sealed(here):
    ref = store_plain(here, as_pem(private_key()), spec=KeySpec.ED25519)
    result = here.encryption.encrypt_all(dry_run=False, actor=ACTOR)
    assert result.encrypted == 0
    assert f"row {ref.id}" in result.errors[0]


def test_plain_secrets_of_other_tables_are_sealed_as_they_are(here):
    with here.uow.begin(ACTOR) as tx:
        tx.session.execute(
            text(
                "INSERT INTO core_setting (key, sealed, version, updated_at, updated_by)"
                " VALUES ('smtp.password', 'hunter2', 1, '2026-01-01 00:00:00', 'test')"
            )
        )
    result = here.encryption.encrypt_all(dry_run=False, actor=ACTOR)
    assert result.encrypted == 1
    with here.uow.read() as reader:
        query = text("SELECT sealed FROM core_setting WHERE key = 'smtp.password'")
        sealed = reader.session.execute(query).scalar()
    assert here.master_key.keyring.unseal(sealed) == b"hunter2"


def test_the_plain_text_leaves_the_database_file(here, database_dialect):
    if database_dialect != "sqlite":
        pytest.skip("PostgreSQL overwrites with VACUUM")
    keys = [private_key() for _ in range(30)]
    for key in keys:
        store_plain(here, as_pem(key))
    here.encryption.encrypt_all(dry_run=False, actor=ACTOR)
    here.close()
    database = Path(here.url.removeprefix("sqlite:///"))
    content = b"".join(path.read_bytes() for path in database.parent.glob(f"{database.name}*"))
    for key in keys:
        body = "".join(as_pem(key).splitlines()[1:-1])
        assert body[:40].encode() not in content
        assert not [form for form in secret_forms(encoded(key)) if form in content]


def test_in_safe_mode_nothing_is_sealed(install):
    install().start()
    here = install()
    here.data_file.unlink()
    here.start()
    store_plain(here, as_pem(private_key()))
    for dry_run in (True, False):
        with pytest.raises(SafeMode):
            here.encryption.encrypt_all(dry_run=dry_run, actor=ACTOR)
    assert here.encryption.status().unencrypted_count == 1


def test_a_download_is_the_key_file_and_audited(here):
    assert here.encryption.download(actor=ACTOR) == here.data_file.read_text()
    assert here.audited()[-1][0] == "master_key_downloaded"


def test_a_key_from_the_environment_is_not_downloaded(install):
    from ucm.domain.sealing import MasterKey

    here = install(environment=MasterKey.generate().reveal()).start()
    with pytest.raises(Conflict, match="does not come from a file"):
        here.encryption.download(actor=ACTOR)


def test_in_safe_mode_there_is_nothing_to_download(install):
    install().start()
    here = install()
    here.data_file.unlink()
    here.start()
    with pytest.raises(SafeMode):
        here.encryption.download(actor=ACTOR)


def test_a_generated_key_is_new_and_kept_nowhere(here):
    key = here.encryption.generate_key()
    assert key != here.encryption.generate_key()
    assert key.reveal() not in here.data_file.read_text()


def test_plain_secrets_of_a_plugins_table_are_sealed_for_that_plugin(here):
    table, orphan = (
        Table(name, MetaData(), Column("id", Integer, primary_key=True), Column("secret", Text))
        for name in ("acme_account", "gone_account")
    )
    keyring = here.master_key.keyring
    with here.uow.begin(ACTOR) as tx:
        for each in (table, orphan):
            each.create(tx.session.connection())
            tx.session.execute(
                each.insert(),
                [{"id": 1, "secret": keyring.seal(b"x")}, {"id": 2, "secret": "hunter2"}],
            )
    result = here.encryption.encrypt_all(dry_run=False, actor=ACTOR)
    assert result.encrypted == 1
    assert result.errors == ("gone_account.secret, row 2: no plugin for gone_account",)
    with here.uow.read() as reader:
        sealed = reader.session.execute(select(table.c.secret).where(table.c.id == 2)).scalar_one()
    assert OwnedSealer(keyring, "acme").unseal(sealed) == b"hunter2"
    with here.uow.begin(ACTOR) as tx:
        table.drop(tx.session.connection())
        orphan.drop(tx.session.connection())
