"""Boot settings: sources, precedence, refusals that teach; data directory; session secret."""

import os
import stat
from pathlib import Path

import pytest

from ucm.runtime.boot import BootError, BootSettings, prepare_data_dir, session_secret


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("UCM_") or name in ("SECRET_KEY", "KEY_ENCRYPTION_KEY", "FLASK_ENV"):
            monkeypatch.delenv(name)


def load(tmp_path: Path, **overrides):
    return BootSettings.load(env_file=tmp_path / "ucm.env", **overrides)


def test_defaults_need_no_configuration(tmp_path):
    boot = load(tmp_path)
    assert (boot.host, boot.https_port, boot.http_port) == ("127.0.0.1", 8443, 8080)
    assert boot.plugins == "default"
    assert boot.public_base() == "https://127.0.0.1:8443"
    assert boot.database.startswith("sqlite:////")


def test_command_line_wins_over_environment_over_file_over_toml(tmp_path, monkeypatch):
    (tmp_path / "ucm.toml").write_text('https_port = 1\nworkers = 3\nhost = "::1"\nthreads = 9\n')
    (tmp_path / "ucm.env").write_text("UCM_HTTPS_PORT=2\nUCM_WORKERS=5\nUCM_HOST=10.0.0.1\n")
    monkeypatch.setenv("UCM_CONFIG", str(tmp_path / "ucm.toml"))
    monkeypatch.setenv("UCM_HTTPS_PORT", "3")
    monkeypatch.setenv("UCM_WORKERS", "6")
    boot = load(tmp_path, https_port=4, host=None)
    assert (boot.https_port, boot.workers, boot.host, boot.threads) == (4, 6, "10.0.0.1", 9)


def test_the_plain_names_of_ucm_env_are_honoured_and_foreign_ones_ignored(tmp_path):
    (tmp_path / "ucm.env").write_text(
        "SECRET_KEY=abc\nKEY_ENCRYPTION_KEY=def\nFLASK_ENV=development\nPATH=/bin\nHTTPS_PORT=1\n"
    )
    boot = load(tmp_path)
    assert boot.secret_key is not None
    assert boot.secret_key.get_secret_value() == "abc"
    assert boot.key_encryption_key is not None
    assert boot.key_encryption_key.get_secret_value() == "def"
    assert boot.flask_env == "development"
    assert boot.https_port == 8443


def test_an_unknown_variable_fails_with_the_nearest_known_name(tmp_path, monkeypatch):
    monkeypatch.setenv("UCM_HTTP_PROT", "80")
    with pytest.raises(BootError, match=r"UCM_HTTP_PROT.*Did you mean 'UCM_HTTP_PORT'"):
        load(tmp_path)


def test_an_unknown_variable_in_ucm_env_names_the_file(tmp_path):
    (tmp_path / "ucm.env").write_text("UCM_WORKRES=2\n")
    with pytest.raises(BootError, match=r"ucm\.env sets UCM_WORKRES.*'UCM_WORKERS'"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("UCM_HTTPS_PORT", "70000", "UCM_HTTPS_PORT: .*65535"),
        ("UCM_WORKERS", "0", "UCM_WORKERS: .*greater than or equal to 1"),
        ("UCM_PUBLIC_URL", "ftp://x", "UCM_PUBLIC_URL: 'ftp://x' is no base URL"),
        ("UCM_TRUSTED_PROXIES", "10.0.0.0/8,proxy", "UCM_TRUSTED_PROXIES: 'proxy' is no address"),
        ("UCM_LOG_LEVEL", "LOUD", "UCM_LOG_LEVEL"),
    ],
)
def test_a_wrong_value_names_its_variable(tmp_path, monkeypatch, name, value, says):
    monkeypatch.setenv(name, value)
    with pytest.raises(BootError, match=says):
        load(tmp_path)


def test_trusted_proxies_are_separated_by_commas(tmp_path, monkeypatch):
    monkeypatch.setenv("UCM_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    assert load(tmp_path).trusted_proxies == ("10.0.0.0/8", "::1")


def test_secrets_do_not_show(tmp_path, monkeypatch):
    monkeypatch.setenv("UCM_ADMIN_PASSWORD", "hunter2hunter2")
    monkeypatch.setenv("SECRET_KEY", "s3cr3t")
    monkeypatch.setenv("UCM_DATABASE_URL", "postgresql://ucm:pa55@db/ucm")
    text = repr(load(tmp_path)) + str(load(tmp_path))
    assert not any(secret in text for secret in ("hunter2", "s3cr3t", "pa55"))


def test_a_plugin_setting_is_left_to_the_settings_registry(tmp_path, monkeypatch):
    monkeypatch.setenv("UCM_ACME__TIMEOUT", "5")
    load(tmp_path)


def test_the_data_directory_is_made_private(tmp_path):
    made = prepare_data_dir(tmp_path / "a" / "data")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_a_data_directory_that_others_may_read_is_refused(tmp_path):
    (tmp_path / "data").mkdir(mode=0o755)
    with pytest.raises(BootError, match="mode 0755") as caught:
        prepare_data_dir(tmp_path / "data")
    assert caught.value.hint.startswith("chmod 700")


def test_a_file_in_the_place_of_the_data_directory_is_refused(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(BootError, match="cannot be used"):
        prepare_data_dir(tmp_path / "data")


def test_the_session_secret_is_made_once_and_kept_private(tmp_path):
    boot = load(tmp_path, data_dir=prepare_data_dir(tmp_path / "data"))
    first = session_secret(boot)
    assert len(first) >= 32
    assert session_secret(boot) == first
    assert stat.S_IMODE((boot.data_dir / "secret.key").stat().st_mode) == 0o600
    assert [path.name for path in boot.data_dir.iterdir()] == ["secret.key"]


def test_a_configured_session_secret_is_used(tmp_path):
    boot = load(
        tmp_path, data_dir=prepare_data_dir(tmp_path / "data"), secret_key="given by the operator"
    )
    assert session_secret(boot) == b"given by the operator"
    assert not (boot.data_dir / "secret.key").exists()


def test_a_configured_session_secret_that_could_be_guessed_is_refused(tmp_path):
    boot = load(tmp_path, data_dir=prepare_data_dir(tmp_path / "data"), secret_key="secret")
    with pytest.raises(BootError, match="fewer than 16") as caught:
        session_secret(boot)
    assert 'secret"' not in str(caught.value)


def test_a_damaged_session_secret_is_refused(tmp_path):
    boot = load(tmp_path, data_dir=prepare_data_dir(tmp_path / "data"))
    (boot.data_dir / "secret.key").write_text("short")
    with pytest.raises(BootError, match="fewer than 32"):
        session_secret(boot)


@pytest.mark.parametrize(("text", "strict"), [("1", True), ("true", True), ("0", False)])
def test_strict_plugins_is_a_switch(tmp_path, monkeypatch, text, strict):
    monkeypatch.setenv("UCM_STRICT_PLUGINS", text)
    assert load(tmp_path).strict_plugins is strict
