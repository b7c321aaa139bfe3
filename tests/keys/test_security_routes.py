"""The security page's routes: encryption status, encrypt all, rotation, download."""

import threading
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ucm.api.actor import Actor
from ucm.api.keys import KeyPurpose, KeyRecord, KeySpec
from ucm.testing.app import api_client, make_app

BASE = "/api/v2/system/security"
ACTOR = Actor.system("test")


def keep_key(container, *, plain=False):
    if plain:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        record = KeyRecord(backend="softkeys", spec=KeySpec.EC_P256, sealed=pem)
    else:
        record = container.keys.make(KeySpec.EC_P256, label="x")
    with container.uow.begin(ACTOR) as tx:
        return tx.keys.add(record, purpose=KeyPurpose.SUBJECT)


def actions(container):
    from sqlalchemy import select

    from ucm.store import tables

    with container.uow.read() as reader:
        return list(
            reader.session.execute(
                select(tables.audit.c.action).order_by(tables.audit.c.id)
            ).scalars()
        )


def test_the_status_names_source_file_and_counts(ucm_api, ucm_container):
    keep_key(ucm_container)
    keep_key(ucm_container, plain=True)
    data = ucm_api.get(f"{BASE}/encryption-status").json["data"]
    path = ucm_container.boot.data_dir / "master.key"
    assert data["enabled"] is True
    assert data["key_source"] == "file"
    assert data["key_file_path"] == str(path)
    assert data["key_file_exists"] is True
    assert data["unencrypted_count"] == 1
    assert data["total_keys"] == data["encrypted_count"] + 1
    assert data["columns"]["core_key.sealed"] == {"encrypted": 1, "unencrypted": 1}
    assert data["rotation"]["state"] == "idle"
    assert path.read_text().strip() not in str(data)


def test_encrypt_all_keys_is_a_dry_run_unless_told_otherwise(ucm_api, ucm_container):
    ref = keep_key(ucm_container, plain=True)
    dry = ucm_api.post(f"{BASE}/encrypt-all-keys", {})
    assert dry.status_code == 200
    assert dry.json["data"]["dry_run"] is True
    assert dry.json["data"]["encrypted"] == 1
    assert not ucm_container.keys.record(ref).sealed.startswith("ENC:")
    real = ucm_api.post(f"{BASE}/encrypt-all-keys", {"dry_run": False})
    assert real.json["data"] == {
        "dry_run": False,
        "encrypted": 1,
        "skipped": dry.json["data"]["skipped"],
        "errors": [],
    }
    assert ucm_container.keys.record(ref).sealed.startswith("ENC:")
    assert actions(ucm_container).count("system_encrypt") == 1


@pytest.mark.parametrize("body", [{"dry_run": "no"}, {"dryrun": False}, {"dry_run": None}])
def test_a_misunderstood_dry_run_encrypts_nothing(ucm_api, ucm_container, body):
    ref = keep_key(ucm_container, plain=True)
    refused = ucm_api.post(f"{BASE}/encrypt-all-keys", body)
    assert refused.status_code == 400
    assert not ucm_container.keys.record(ref).sealed.startswith("ENC:")


def test_rotation_answers_at_once_and_its_status_shows_the_end(
    ucm_api, ucm_container, ucm_installation
):
    ref = keep_key(ucm_container)
    path = ucm_container.boot.data_dir / "master.key"
    old = path.read_text()
    started = ucm_api.post(f"{BASE}/rotate-master-key")
    assert started.status_code == 202
    assert started.json["data"]["state"] == "running"
    assert "former master key" in started.json["message"]
    again = ucm_api.post(f"{BASE}/rotate-master-key")
    assert again.status_code == 409
    assert again.mimetype == "application/problem+json"
    ucm_installation.clock.advance(timedelta(minutes=1))
    for thread in threading.enumerate():
        if thread.name == "master-key-rotation":
            thread.join(20)
    data = ucm_api.get(f"{BASE}/rotate-master-key").json["data"]
    assert data["state"] == "idle"
    assert data["error"] is None
    assert path.read_text() != old
    assert len(path.read_text().splitlines()) == 1
    assert old.strip() not in path.read_text()
    with ucm_container.keys.open(ref):
        pass
    assert {"master_key_rotation_started", "master_key_rotated"} <= set(actions(ucm_container))


def test_a_generated_key_is_a_fernet_key_with_instructions(ucm_api, ucm_container):
    before = (ucm_container.boot.data_dir / "master.key").read_text()
    answer = ucm_api.get(f"{BASE}/generate-key")
    data = answer.json["data"]
    Fernet(data["key"])
    assert data["key"] not in before
    assert any(str(data["key_file_path"]) in line for line in data["instructions"])
    assert "no-store" in answer.headers["Cache-Control"]
    assert (ucm_container.boot.data_dir / "master.key").read_text() == before


def test_the_download_is_the_file_is_not_cached_and_is_audited(ucm_api, ucm_container):
    answer = ucm_api.get(f"{BASE}/master-key/download")
    assert answer.status_code == 200
    assert answer.data == (ucm_container.boot.data_dir / "master.key").read_bytes()
    assert answer.mimetype == "application/octet-stream"
    assert 'filename="ucm-master.key"' in answer.headers["Content-Disposition"]
    assert "no-store" in answer.headers["Cache-Control"]
    assert answer.headers["Pragma"] == "no-cache"
    assert actions(ucm_container)[-1] == "master_key_downloaded"


def test_a_key_of_the_environment_is_neither_downloaded_nor_rotated_here(ucm_installation):
    container = ucm_installation.start(key_encryption_key=Fernet.generate_key().decode())
    api = api_client(make_app(container), container)
    assert api.get(f"{BASE}/encryption-status").json["data"]["key_source"] == "env"
    for refused in (
        api.get(f"{BASE}/master-key/download"),
        api.post(f"{BASE}/rotate-master-key"),
    ):
        assert refused.status_code == 409
        assert "KEY_ENCRYPTION_KEY" in refused.json["hint"]


def test_in_safe_mode_the_status_answers_and_what_needs_the_key_says_503(ucm_installation):
    first = ucm_installation.start()
    ref = keep_key(first)
    first.close()
    path = first.boot.data_dir / "master.key"
    content = path.read_text()
    path.unlink()
    container = ucm_installation.start()
    api = api_client(make_app(container), container)
    status = api.get(f"{BASE}/encryption-status")
    assert status.status_code == 200
    assert status.json["data"]["safe_mode"] is True
    assert status.json["data"]["enabled"] is False
    assert str(path) in status.json["data"]["safe_mode_reason"]
    for refused in (
        api.post(f"{BASE}/encrypt-all-keys", {"dry_run": False}),
        api.post(f"{BASE}/rotate-master-key"),
        api.get(f"{BASE}/master-key/download"),
    ):
        assert refused.status_code == 503
        assert refused.json["safe_mode"] is True
        assert refused.headers["Retry-After"]
    assert not path.exists()
    path.write_text(content)
    path.chmod(0o600)
    with container.keys.open(ref):
        pass
    assert api.get(f"{BASE}/encryption-status").json["data"]["safe_mode"] is False


@pytest.mark.parametrize("role", ["operator", "auditor", "viewer"])
def test_only_administrators_may(ucm_app, ucm_container, role):
    api = api_client(ucm_app, ucm_container, role=role)
    before = (ucm_container.boot.data_dir / "master.key").read_text()
    for answer in (
        api.get(f"{BASE}/encryption-status"),
        api.get(f"{BASE}/generate-key"),
        api.get(f"{BASE}/master-key/download"),
        api.get(f"{BASE}/rotate-master-key"),
        api.post(f"{BASE}/rotate-master-key"),
        api.post(f"{BASE}/encrypt-all-keys", {"dry_run": False}),
    ):
        assert answer.status_code == 403
    assert (ucm_container.boot.data_dir / "master.key").read_text() == before


def test_the_secrets_are_there_and_are_not_shown(ucm_api):
    answer = ucm_api.get(f"{BASE}/secrets-status")
    assert answer.json["data"] == {
        "session_secret": {"configured": True, "source": "env"},
        "encryption_key": {"configured": True, "source": "file"},
    }


def test_encryption_is_on_and_stays_on(ucm_api):
    on = ucm_api.post(f"{BASE}/enable-encryption")
    assert on.status_code == 400
    assert "already" in on.json["error"]
    assert "encrypt-all-keys" in on.json["hint"]
    off = ucm_api.post(f"{BASE}/disable-encryption")
    assert off.status_code == 409
    assert "cannot be switched off" in off.json["error"]
