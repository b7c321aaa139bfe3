"""What the commands do, end to end in one process."""

from __future__ import annotations

import json
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import PASSWORD
from ucm.cli.main import COMMANDS


def make_root(ucm, name: str = "Command Root") -> int:
    made = ucm("ca", "create", name, "--key-type", "EC-P256", "--json")
    return int(json.loads(made.stdout)["id"])


def test_help_lists_every_command_and_imports_none(ucm) -> None:
    shown = ucm("--help").output
    for command in COMMANDS:
        assert f"\n  {command} " in shown
    code = """
import sys
from ucm.cli.main import main
main(["--help"])
print(sorted(m for m in sys.modules if m.startswith(("sqlalchemy", "flask", "ucm.web"))))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_command_is_refused(ucm) -> None:
    assert "No such command" in ucm("nonsense", fails=True).output


def test_init_can_be_repeated(ucm, tmp_path: Path) -> None:
    ucm("init")
    key = (tmp_path / "ucm-data" / "master.key").read_bytes()
    assert stat.S_IMODE((tmp_path / "ucm-data").stat().st_mode) == 0o700
    for path in (tmp_path / "ucm-data").iterdir():
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    ucm("init")
    assert (tmp_path / "ucm-data" / "master.key").read_bytes() == key


def test_the_random_first_password_is_shown_once(ucm, monkeypatch) -> None:
    monkeypatch.delenv("UCM_ADMIN_PASSWORD")
    assert "shown only this once" in ucm("init").output
    assert "shown only this once" not in ucm("init").output


def test_migrate_says_what_it_does(ucm, tmp_path: Path) -> None:
    assert "core_0001" in ucm("migrate", "--check", fails=True).output
    assert not (tmp_path / "ucm-data").exists()  # a check makes nothing
    (tmp_path / "ucm-data").mkdir(mode=0o700)
    assert "core_0001" in ucm("migrate", "--check", fails=True).output
    assert list((tmp_path / "ucm-data").iterdir()) == []
    assert "done" in ucm("migrate").output
    assert "up to date" in ucm("migrate", "--check").output


@pytest.mark.peer("openssl")
def test_a_csr_becomes_a_certificate_that_openssl_accepts(ucm, tmp_path: Path) -> None:
    root = make_root(ucm)
    sub = ucm(
        *("ca", "create", "Command Issuing", "--parent", str(root)),
        *("--key-type", "ED25519", "--path-length", "0", "--json"),
    )
    issuing = json.loads(sub.stdout)["id"]
    request = [
        "openssl",
        "req",
        "-new",
        "-newkey",
        "ed25519",
        "-nodes",
        "-keyout",
        "k",
        "-out",
        "r",
    ]
    names = ["-subj", "/CN=cli.example", "-addext", "subjectAltName=DNS:cli.example"]
    subprocess.run([*request, *names], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    leaf = tmp_path / "leaf.pem"
    ucm(*("cert", "issue", "--ca", str(issuing), "--csr", str(tmp_path / "r")), "--out", str(leaf))
    for name, ca in (("root", root), ("issuing", issuing)):
        ucm("ca", "export", str(ca), "--out", str(tmp_path / f"{name}.pem"))
    verify = ["openssl", "verify", "-CAfile", "root.pem", "-untrusted", "issuing.pem", "leaf.pem"]
    done = subprocess.run(verify, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "leaf.pem: OK" in done.stdout, done.stderr
    listed = json.loads(ucm("cert", "list", "--search", "cli.example", "--json").stdout)
    assert [row["common_name"] for row in listed] == ["cli.example"]
    assert listed[0]["source"] == "cli"
    assert "cli.example" in ucm("cert", "show", str(listed[0]["id"])).output


def test_revoking_asks_first(ucm) -> None:
    root = make_root(ucm)
    ucm("cert", "issue", "--ca", str(root), "--cn", "r.example", "--key-type", "EC-P256")
    found = json.loads(ucm("cert", "list", "--search", "r.example", "--json").stdout)[0]["id"]
    ucm("cert", "revoke", str(found), text="n\n", fails=True)
    ucm("cert", "revoke", str(found), "--reason", "keyCompromise", text="y\n")
    assert "already" in ucm("cert", "revoke", str(found), "--yes", fails=True).output
    assert json.loads(ucm("cert", "show", str(found), "--json").stdout)["status"] == "revoked"


def test_a_key_is_written_for_its_owner_only(ucm, tmp_path: Path) -> None:
    root = make_root(ucm)
    ucm("cert", "issue", "--ca", str(root), "--cn", "k.example", "--key-type", "EC-P256")
    found = json.loads(ucm("cert", "list", "--search", "k.example", "--json").stdout)[0]["id"]
    out = tmp_path / "k.pem"
    ucm("cert", "export", str(found), "--format", "key", "--out", str(out))
    assert b"PRIVATE KEY" in out.read_bytes()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_refusals_say_what_is_wrong_and_what_to_do(ucm) -> None:
    refused = ucm("ca", "create", "X", "--key-type", "RSA-1024", fails=True).output
    assert "error:" in refused
    assert "RSA-2048" in refused
    assert "error:" in ucm("ca", "show", "77", fails=True).output


@pytest.mark.parametrize("days", ["99999999999", "-99999999999", "1000000"])
def test_a_validity_that_no_calendar_holds_is_refused_in_a_sentence(ucm, days: str) -> None:
    root = make_root(ucm)
    arguments = ("--ca", str(root), "--cn", "a.example", "--days", days)
    refused = ucm("cert", "issue", *arguments, fails=True).output
    assert "error:" in refused
    assert "day" in refused or "positive" in refused
    refused = ucm("ca", "create", "X", "--years", days, fails=True).output
    assert "error:" in refused
    assert "Traceback" not in refused


def test_users(ucm) -> None:
    ucm("init")
    weak = ucm("user", "create", "mallory", "--password", "short", fails=True)
    assert "error:" in weak.output
    made = ucm("user", "create", "mallory", "--role", "operator", "--password", "Good enough 7!")
    assert "operator" in made.output
    ucm("user", "passwd", "mallory", "--password", "Better even 8?")
    assert (
        "error:" in ucm("user", "passwd", "nobody", "--password", "Better 8? x", fails=True).output
    )


def test_plugins_are_listed_and_checked(ucm) -> None:
    listed = json.loads(ucm("plugins", "list", "--json").stdout)
    assert {row["name"]: row["state"] for row in listed}["softkeys"] == "running"
    assert "ok   softkeys" in ucm("plugins", "check").output


def everything_in(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, content)
    return found


def test_doctor_changes_nothing(ucm, tmp_path: Path) -> None:
    data = tmp_path / "ucm-data"
    ucm("doctor", fails=True)
    assert not data.exists()
    data.mkdir(mode=0o700)
    shown = ucm("doctor", fails=True).output
    assert "ucm.db does not exist" in shown
    assert "ucm init" in shown
    assert list(data.iterdir()) == []
    ucm("migrate")  # makes no system templates
    before = everything_in(data)
    ucm("doctor")
    assert everything_in(data) == before
    (data / "migrate.lock").unlink()
    (data / "master.key").chmod(0o640)
    before = everything_in(data)
    ucm("doctor", fails=True)
    assert everything_in(data) == before


def test_doctor_makes_no_master_key(ucm, tmp_path: Path) -> None:
    ucm("init")
    data = tmp_path / "ucm-data"
    (data / "master.key").unlink()
    with sqlite3.connect(data / "ucm.db") as connection:
        connection.execute("DELETE FROM core_secret_canary")
    connection.close()
    ucm("doctor", fails=True)
    assert not (data / "master.key").exists()


def test_doctor_compares_the_clock_with_the_database(ucm, tmp_path: Path) -> None:
    ucm("init")
    assert "the clock is not behind" in ucm("doctor").output
    with sqlite3.connect(tmp_path / "ucm-data" / "ucm.db") as connection:
        connection.execute("UPDATE core_audit SET timestamp = '2099-01-01 00:00:00.000000'")
    connection.close()
    shown = ucm("doctor", fails=True).output
    assert "behind the database's newest entry (2099-01-01 00:00:00 UTC)" in shown
    assert "set the clock" in shown


def test_doctor_lists_what_is_set_and_where(ucm, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "ucm.toml").write_text('workers = 3\nhttp_port = 9\nhost = "::1"\n')
    monkeypatch.setenv("UCM_CONFIG", str(tmp_path / "ucm.toml"))
    monkeypatch.setenv("UCM_HTTP_PORT", "0")
    monkeypatch.setenv("SECRET_KEY", "not to be shown at all")
    other = tmp_path / "elsewhere"
    shown = ucm("doctor", "--data-dir", str(other), fails=True).output
    assert f"UCM_DATA_DIR is {other} (from command line)" in shown
    assert "UCM_HTTP_PORT is 0 (from environment)" in shown
    assert f"UCM_WORKERS is 3 (from {tmp_path / 'ucm.toml'})" in shown
    assert "UCM_ADMIN_PASSWORD is set (from environment)" in shown
    assert "SECRET_KEY is set (from environment)" in shown
    assert PASSWORD not in shown
    assert "not to be shown" not in shown
    assert "UCM_THREADS" not in shown
    monkeypatch.setenv("UCM_WORKERS", "many")
    shown = ucm("doctor", fails=True).output
    assert "FAIL configuration" in shown
    assert "UCM_WORKERS is many (from environment)" in shown


def test_purging_a_plugin_that_is_not_there_says_so(ucm) -> None:
    ucm("init")
    assert "nonesuch" in ucm("plugins", "purge", "nonesuch", "--yes", fails=True).output


def test_doctor_finds_and_explains(ucm, tmp_path: Path, monkeypatch) -> None:
    assert "ucm init" in ucm("doctor", fails=True).output
    ucm("init")
    assert "everything is in order" in ucm("doctor").output
    (tmp_path / "ucm-data" / "master.key").chmod(0o644)
    shown = ucm("doctor", fails=True).output
    assert "chmod 600" in shown
    (tmp_path / "ucm-data" / "master.key").chmod(0o600)
    monkeypatch.setenv("UCM_HTTPS_PROT", "1")
    assert "UCM_HTTPS_PORT" in ucm("doctor", fails=True).output
