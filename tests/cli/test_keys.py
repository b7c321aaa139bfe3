"""``ucm keys``, and what commands say before they are silent for long."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from ucm.api.actor import Actor
from ucm.api.keys import KeySpec
from ucm.cli.container import opened
from ucm.cli.keys import rotate_visibly
from ucm.cli.progress import announce_key
from ucm.services.rotation import KeyRotation, RotationState


def test_the_status_tells_where_the_key_is_and_never_the_key(ucm, tmp_path) -> None:
    ucm("ca", "create", "Root", "--key-type", "EC-P256")
    found = json.loads(ucm("keys", "status", "--json").stdout)
    file = tmp_path / "ucm-data" / "master.key"
    assert found["key_file_path"] == str(file)
    assert (found["encrypted_count"], found["unencrypted_count"]) == (1, 0)
    shown = ucm("keys", "status").output
    assert found["key_fingerprint"] in shown
    assert file.read_text().strip() not in shown


def test_a_rotation_asks_first(ucm, tmp_path) -> None:
    ucm("init")
    before = (tmp_path / "ucm-data" / "master.key").read_bytes()
    assert "Backups" in ucm("keys", "rotate", text="n\n", fails=True).output
    assert (tmp_path / "ucm-data" / "master.key").read_bytes() == before


def test_a_rotation_shows_its_progress_and_what_was_sealed_still_opens(
    ucm, tmp_path, capsys
) -> None:
    """With no time of grace: no other process runs here. The command itself keeps to it."""
    ucm("ca", "create", "Root", "--key-type", "EC-P256")
    file = tmp_path / "ucm-data" / "master.key"
    before = file.read_text()
    with opened(None) as container:
        rotation = KeyRotation(
            uow=container.uow,
            master_key=container.master_key,
            clock=container.clock,
            grace=timedelta(0),
        )
        done = rotate_visibly(rotation, actor=Actor.system("tests"))
    assert done.state is RotationState.IDLE
    shown = capsys.readouterr().err
    assert "sealing every secret again" in shown
    assert "secrets" in shown.splitlines()[-1]
    assert file.read_text() != before
    assert done.fingerprint == json.loads(ucm("keys", "status", "--json").stdout)["key_fingerprint"]
    ucm("cert", "issue", "--ca", "1", "--cn", "after.example", "--key-type", "EC-P256")


def test_a_key_of_the_environment_is_not_rotated_from_here(ucm, monkeypatch, tmp_path) -> None:
    ucm("init")
    file = tmp_path / "ucm-data" / "master.key"
    monkeypatch.setenv("KEY_ENCRYPTION_KEY", file.read_text().strip())
    file.unlink()
    refused = ucm("keys", "rotate", "--yes", fails=True).output
    assert "KEY_ENCRYPTION_KEY" in refused
    assert "hint:" in refused


def test_a_long_search_for_primes_is_announced(ucm) -> None:
    made = ucm("ca", "create", "Root", "--key-type", "RSA-3072", "--json")
    assert "making an RSA-3072 key" in made.stderr
    assert json.loads(made.stdout)["key_type"] == "RSA-3072"
    quick = ucm("cert", "issue", "--ca", "1", "--cn", "a.example", "--key-type", "EC-P256")
    assert "making" not in quick.stderr
    slow = ucm("cert", "issue", "--ca", "1", "--cn", "b.example", "--key-type", "RSA-3072")
    assert "making an RSA-3072 key" in slow.stderr


@pytest.mark.parametrize(
    ("spec", "said"),
    [(KeySpec.RSA_2048, ""), (KeySpec.ML_DSA_65, ""), (KeySpec.RSA_8192, "minute")],
)
def test_only_slow_keys_are_announced(capsys, spec: KeySpec, said: str) -> None:
    announce_key(spec)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert (said in shown.err) if said else shown.err == ""
