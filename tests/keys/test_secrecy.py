"""No private key is readable anywhere: in no file of the database, log, repr or error."""

import dataclasses
import logging
import traceback
from pathlib import Path

import pytest
from sqlalchemy import text

from ucm.api.actor import Actor
from ucm.api.errors import UcmError
from ucm.api.keys import KeyPurpose, KeySpec
from ucm.domain.sealing import MasterKey
from ucm.testing.contracts.key_backend import secret_forms

ACTOR = Actor.system("test")
SPECS = [spec for spec in KeySpec if spec not in (KeySpec.RSA_4096, KeySpec.RSA_8192)]


def make_one_of_each(here):
    """Every kind of key, used and exported; returns all ways to spell the secrets."""
    secrets = []
    for spec in SPECS:
        (ref,) = here.make_keys(1, spec=spec, purpose=KeyPurpose.CA)
        with here.keys.open(ref):
            pass
        secrets.extend(secret_forms(here.keys.export_key(ref)))
    return secrets


def files_of(here):
    database = Path(here.url.removeprefix("sqlite:///"))
    found = [*here.data_file.parent.iterdir(), *database.parent.glob(f"{database.name}*")]
    return [path for path in found if path != here.data_file]


def assert_nowhere(secrets, content, *, where):
    for secret in secrets:
        assert secret not in content, f"a private key is readable in {where}"


def test_the_search_would_find_a_key_that_lies_in_clear(install):
    here = install().start()
    (ref,) = here.make_keys(1, spec=KeySpec.EC_P256)
    pkcs8 = here.keys.export_key(ref)
    for form in secret_forms(pkcs8):
        with pytest.raises(AssertionError):
            assert_nowhere(secret_forms(pkcs8), b"before" + form + b"after", where="x")


def test_keys_are_not_in_the_files_of_the_database(install, database_dialect):
    if database_dialect != "sqlite":
        pytest.skip("the cluster's files hold other tests' data")
    here = install().start()
    secrets = make_one_of_each(here)
    while_open = {path.name: path.read_bytes() for path in files_of(here)}
    assert any(name.endswith("-wal") and content for name, content in while_open.items())
    here.rotation.rotate(actor=ACTOR)
    here.close()
    for name, content in while_open.items():
        assert_nowhere(secrets, content, where=name)
    for path in files_of(here):
        assert_nowhere(secrets, path.read_bytes(), where=path.name)


def test_keys_are_in_no_column_of_any_table(install):
    from ucm.store import tables

    here = install().start()
    secrets = make_one_of_each(here)
    with here.uow.read() as reader:
        for table in tables.__all__:
            rows = getattr(getattr(tables, table), "select", None)
            if rows is not None:
                content = repr(reader.session.execute(rows()).all()).encode()
                assert_nowhere(secrets, content, where=table)


def test_keys_and_master_keys_are_not_logged(install, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("ucm", "sqlalchemy.engine", "sqlalchemy.pool"):
        caplog.set_level(logging.DEBUG, logger=name)
    here = install().start()
    secrets = make_one_of_each(here)
    here.encryption.encrypt_all(dry_run=False, actor=ACTOR)
    here.rotation.rotate(actor=ACTOR)
    secrets.append(here.data_file.read_bytes().strip())
    assert "INSERT INTO core_key" in caplog.text, "the log is not what this test believes"
    assert_nowhere(secrets, caplog.text.encode(), where="the log")


def test_nothing_shows_a_key_in_its_repr(install):
    here = install().start()
    secrets = make_one_of_each(here)
    shown = [
        here.backend, here.keys, here.master_key, here.encryption, here.rotation,
        here.backend._opened, here.stored(), here.encryption.status(),
    ]  # fmt: skip
    for key in here.stored():
        with here.keys.open(key.ref) as opened:
            shown += [opened, opened.public_key(), key.record]
    assert_nowhere(secrets, "\n".join(map(repr, shown)).encode(), where="a repr")
    assert_nowhere(secrets, "\n".join(map(str, shown)).encode(), where="a str")


def test_errors_about_keys_do_not_quote_them(install):
    here = install().start()
    (ref,) = here.make_keys(1, spec=KeySpec.EC_P256)
    pkcs8 = here.keys.export_key(ref)
    record = here.keys.record(ref)
    attempts = [
        lambda: here.keys.take(pkcs8[:-1], label="x"),
        lambda: here.keys.take(pkcs8 + b"\x00", label="x"),
        lambda: here.backend.export_key(
            dataclasses.replace(record, sealed=here.sealer.seal(pkcs8[:-1]))
        ),
        lambda: here.backend.export_key(dataclasses.replace(record, sealed=pkcs8.hex())),
        lambda: here.backend.export_key(dataclasses.replace(record, spec=KeySpec.ED25519)),
    ]
    for attempt in attempts:
        with pytest.raises(UcmError) as refused:
            attempt()
        error = refused.value
        told = "".join(traceback.format_exception(error)) + repr((error.hint, error.extra))
        assert_nowhere(secret_forms(pkcs8), told.encode(), where="an error")


def test_a_wrong_master_key_is_not_quoted(install):
    wrong = MasterKey.generate().reveal()[:-2]
    state = install(environment=wrong).master_key.start()
    assert wrong not in repr(state)


def test_the_database_alone_is_of_no_use(install):
    """Whoever has the database but not the master key has no key."""
    here = install().start()
    here.make_keys(2)
    stolen = install(environment=MasterKey.generate().reveal())
    stolen.data_file.unlink()
    stolen.start()
    for key in stolen.stored():
        with pytest.raises(UcmError):
            stolen.backend.export_key(key.record)
    with here.uow.read() as reader:
        assert reader.session.execute(text("SELECT count(*) FROM core_key")).scalar() == 2
