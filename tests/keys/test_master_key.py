"""Where the master key comes from, and that no key takes the place of the right one."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from ucm.api.actor import Actor
from ucm.api.errors import Conflict, KeyUnavailable, SafeMode
from ucm.domain.sealing import MasterKey, MasterKeys
from ucm.services.masterkey import KeyFile, KeySource

ACTOR = Actor.system("test")
SAFE_MODE = "safe-mode"


def write(path, *keys):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text("".join(f"{key.reveal()}\n" for key in keys))
    path.chmod(0o600)


# --- the first start -----------------------------------------------------------------------------


def test_a_new_installation_gets_a_key_in_its_data_directory(install):
    here = install()
    state = here.master_key.start()
    assert state.source is KeySource.FILE
    assert state.path == here.data_file
    assert not state.safe_mode
    assert stat.S_IMODE(here.data_file.stat().st_mode) == 0o600
    assert MasterKeys.parse(here.data_file.read_text()).newest.fingerprint == state.fingerprint
    assert here.master_key.keyring.unseal(here.master_key.keyring.seal(b"x")) == b"x"


def test_the_key_stays_the_same_over_restarts(install):
    first = install().start().master_key.state()
    assert install().start().master_key.state() == first


def test_making_the_key_is_audited_once(install):
    here = install().start()
    install().start()
    assert [action for action, _ in here.audited()] == ["master_key_created"]


def test_before_the_start_nothing_is_sealed(install):
    with pytest.raises(SafeMode):
        install().master_key.keyring.seal(b"x")


def test_processes_that_start_at_the_same_time_agree_on_one_key(install):
    several = [install() for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        states = list(pool.map(lambda here: here.master_key.start(), several))
    assert len({state.fingerprint for state in states}) == 1
    assert not any(state.safe_mode for state in states)
    several[0].make_keys(2)
    assert several[5].use_every_key() == 2
    assert [path.name for path in several[0].data_file.parent.iterdir()] == ["master.key"]


def test_of_two_machines_that_start_with_different_keys_only_one_owns_the_database(install):
    one, other = install(), install(environment=MasterKey.generate().reveal())
    write(one.data_file, MasterKey.generate())
    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(lambda here: here.master_key.start(), (one, other)))
    assert sorted(state.safe_mode for state in states) == [False, True]


# --- which place counts --------------------------------------------------------------------------


def test_the_system_file_comes_before_the_environment_and_that_before_the_data_directory(install):
    system, environment, data = (MasterKey.generate() for _ in range(3))
    here = install(environment=environment.reveal())
    write(here.data_file, data)
    assert here.master_key.start().fingerprint == environment.fingerprint
    write(here.system_file, system)
    other = install(environment=environment.reveal())
    state = other.master_key.start()
    assert state.source is KeySource.FILE
    assert state.path == here.system_file


def test_a_key_that_is_there_is_taken_and_none_is_made(install):
    key = MasterKey.generate()
    here = install()
    write(here.system_file, key)
    assert here.master_key.start().fingerprint == key.fingerprint
    assert not here.data_file.exists()


def test_the_environment_may_hold_several_keys(install):
    new, old = MasterKey.generate(), MasterKey.generate()
    install(environment=old.reveal()).start().make_keys(1)
    here = install(environment=f"{new.reveal()},{old.reveal()}").start()
    state = here.master_key.state()
    assert state.source is KeySource.ENVIRONMENT
    assert state.older_fingerprints == (old.fingerprint,)
    assert here.use_every_key() == 1


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o666, 0o604])
def test_a_file_that_others_may_read_is_tightened(install, mode, caplog):
    here = install()
    write(here.system_file, MasterKey.generate())
    here.system_file.chmod(mode)
    assert not here.master_key.start().safe_mode
    assert stat.S_IMODE(here.system_file.stat().st_mode) == 0o600
    assert f"{mode:04o}" in caplog.text


# --- missing and wrong keys ----------------------------------------------------------------------


def test_without_its_key_a_database_with_keys_starts_in_safe_mode(install):
    install().start().make_keys(3)
    here = install()
    kept = here.data_file.rename(here.data_file.with_suffix(".away"))
    state = here.master_key.start()
    assert state.safe_mode
    assert str(here.data_file) in state.safe_mode_reason
    assert "KEY_ENCRYPTION_KEY" in state.safe_mode_reason
    assert not here.data_file.exists(), "a second key was made over the first"
    with pytest.raises(SafeMode) as refused:
        here.use_every_key()
    assert refused.value.code == SAFE_MODE
    assert refused.value.extra["safe_mode"] is True
    assert "Put the master key of this database back" in refused.value.hint
    with pytest.raises(SafeMode):
        here.make_keys(1)
    # and goes on by itself when the key is back
    kept.rename(here.data_file)
    assert here.use_every_key() == 3
    assert not here.master_key.state().safe_mode


def test_a_database_that_lost_its_key_before_it_held_any_secret_is_in_safe_mode_too(install):
    install().start()
    here = install()
    here.data_file.unlink()
    assert here.master_key.start().safe_mode
    assert not here.data_file.exists()


def test_a_wrong_key_opens_and_seals_nothing(install):
    right = install().start()
    right.make_keys(1)
    before = [key.record.sealed for key in right.stored()]
    wrong = MasterKey.generate()
    here = install()
    write(here.data_file, wrong)
    state = here.master_key.start()
    assert state.safe_mode
    assert wrong.fingerprint in state.safe_mode_reason
    with pytest.raises(SafeMode):
        here.use_every_key()
    with pytest.raises(SafeMode):
        here.make_keys(1)
    assert [key.record.sealed for key in here.stored()] == before


def test_a_wrong_key_in_a_more_important_place_is_not_passed_over(install):
    install().start().make_keys(1)
    here = install()
    write(here.system_file, MasterKey.generate())
    assert here.master_key.start().safe_mode
    here.system_file.unlink()
    assert here.use_every_key() == 1


@pytest.mark.parametrize("text", ["", "password\n", "ü\n", "A" * 44 + "B\n"])
def test_a_file_that_holds_no_key_is_safe_mode_and_not_replaced(install, text):
    here = install()
    here.system_file.write_text(text)
    here.system_file.chmod(0o600)
    state = here.master_key.start()
    assert state.safe_mode
    assert str(here.system_file) in state.safe_mode_reason
    assert text.strip() == "" or text.strip() not in state.safe_mode_reason
    assert here.system_file.read_text() == text
    assert not here.data_file.exists()


def test_a_malformed_environment_key_is_safe_mode_and_not_shown(install):
    state = install(environment="not-a-fernet-key").master_key.start()
    assert state.safe_mode
    assert "KEY_ENCRYPTION_KEY" in state.safe_mode_reason
    assert "not-a-fernet-key" not in state.safe_mode_reason


def test_a_key_file_that_cannot_be_read_is_safe_mode_and_no_other_key_is_made(install):
    here = install()
    write(here.system_file, MasterKey.generate())
    here.system_file.unlink()
    here.system_file.mkdir()
    assert here.master_key.start().safe_mode
    assert not here.data_file.exists()


def test_sealed_values_without_a_canary_still_say_which_key_is_right(install):
    here = install().start()
    here.make_keys(1)
    from sqlalchemy import delete

    from ucm.store import tables

    with here.uow.begin(ACTOR) as tx:
        tx.session.execute(delete(tables.secret_canary))
    right = here.data_file.read_text()
    write(here.data_file, MasterKey.generate())
    assert install().master_key.start().safe_mode
    here.data_file.write_text(right)
    assert not install().master_key.start().safe_mode
    with here.uow.read() as reader:
        assert reader.secrets.canary() is not None


# --- while UCM runs ------------------------------------------------------------------------------


def test_when_the_file_vanishes_what_is_sealed_still_opens_and_nothing_new_is_sealed(install):
    here = install().start()
    here.make_keys(2)
    content = here.data_file.read_text()
    here.data_file.unlink()
    assert here.use_every_key() == 2
    with pytest.raises(SafeMode):
        here.make_keys(1)
    state = here.master_key.state()
    assert not state.safe_mode
    assert "no master key" in state.warning
    assert here.encryption.download(actor=ACTOR) == content
    write(here.data_file, MasterKeys.parse(content).newest)
    here.make_keys(1)
    assert here.master_key.state().warning is None


def test_a_wrong_file_put_in_place_while_ucm_runs_seals_nothing(install):
    here = install().start()
    here.make_keys(1)
    write(here.data_file, MasterKey.generate())
    with pytest.raises(SafeMode):
        here.make_keys(1)
    assert here.use_every_key() == 1


def test_one_damaged_secret_is_not_safe_mode(install):
    here = install().start()
    here.make_keys(1)
    with pytest.raises(KeyUnavailable) as refused:
        here.master_key.keyring.unseal("ENC:gAAAAdamaged")
    assert refused.value.code != SAFE_MODE
    assert not here.master_key.state().safe_mode


# --- the file ------------------------------------------------------------------------------------


def test_a_first_file_never_replaces_another(tmp_path):
    file = KeyFile(tmp_path / "master.key")
    keys = MasterKeys([MasterKey.generate()])
    assert file.create(keys)
    assert not file.create(MasterKeys([MasterKey.generate()]))
    assert file.read().keys == keys.keys
    assert [path.name for path in tmp_path.iterdir()] == ["master.key"]


def test_replacing_keeps_mode_and_owner_and_leaves_nothing_beside(tmp_path):
    file = KeyFile(tmp_path / "master.key")
    file.create(MasterKeys([MasterKey.generate()]))
    if os.geteuid() == 0:
        os.chown(file.path, 12345, 12346)
    stamp, before = file.stamp(), file.path.stat()
    keys = MasterKeys([MasterKey.generate()])
    file.replace(keys)
    after = file.path.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (
        before.st_uid,
        before.st_gid,
        before.st_mode,
    )
    assert file.stamp() != stamp
    assert file.read().keys == keys.keys
    assert [path.name for path in tmp_path.iterdir()] == ["master.key"]


def test_a_file_that_cannot_be_replaced_stays_and_the_error_says_why(tmp_path):
    file = KeyFile(tmp_path / "away" / "master.key")
    with pytest.raises(Conflict, match="cannot be replaced"):
        file.replace(MasterKeys([MasterKey.generate()]))


def test_only_one_process_may_change_keys(install, process):
    here = install().start()
    assert here.master_key.change_in_progress() is None
    child = process("locked")
    assert child.stdout.readline() == "locked\n"
    assert here.master_key.change_in_progress() == (3, 10)
    with pytest.raises(Conflict, match="being changed already"), here.master_key.exclusive():
        pass
    child.kill()
    child.wait()
    assert here.master_key.change_in_progress() is None
    with here.master_key.exclusive():
        pass


def test_nothing_shows_the_key(install, caplog):
    caplog.set_level("DEBUG")
    here = install().start()
    here.make_keys(1)
    key = here.data_file.read_text().strip()
    shown = [
        repr(here.master_key),
        repr(here.master_key.state()),
        repr(here.master_key.keyring),
        repr(here.encryption.status()),
        repr(here.rotation.status()),
        caplog.text,
        *(str(row) for row in here.audited()),
    ]
    assert not [text for text in shown if key in text]
