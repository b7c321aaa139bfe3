"""The master key is exchanged while UCM works; a rotation that was cut off is finished later."""

import os
import signal
import threading

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, text

from ucm.api.actor import Actor
from ucm.api.errors import Conflict, SafeMode
from ucm.domain.sealing import MasterKey, MasterKeys
from ucm.services.rotation import RotationState

ACTOR = Actor.system("test")


def keys_in(path):
    return MasterKeys.parse(path.read_text())


def sealed_under(here, keys):
    """How many stored keys are sealed under the newest of `keys`."""
    return sum(keys.is_current(key.record.sealed) for key in here.stored())


def test_afterwards_every_key_is_sealed_under_a_new_master_key_and_the_old_one_is_gone(install):
    here = install().start()
    here.make_keys(450)
    old = keys_in(here.data_file)
    seen = []
    status = here.rotation.rotate(actor=ACTOR, progress=lambda *each: seen.append(each))
    new = keys_in(here.data_file)
    assert len(new.keys) == 1
    assert new.newest != old.newest
    assert status.state is RotationState.IDLE
    assert status.fingerprint == new.newest.fingerprint
    assert here.use_every_key() == 450
    assert sealed_under(here, new) == 450
    assert not any(old.opens(key.record.sealed) for key in here.stored())
    assert seen[-1] == (451, 451)  # the canary is a secret too


def test_the_rotated_key_is_the_right_one_at_the_next_start(install):
    here = install().start()
    here.make_keys(1)
    old = here.data_file.read_text()
    here.rotation.rotate(actor=ACTOR)
    assert not install().master_key.start().safe_mode
    new = here.data_file.read_text()
    here.data_file.write_text(old)
    assert install().master_key.start().safe_mode
    here.data_file.write_text(new)
    with here.uow.read() as reader:
        assert reader.secrets.canary().fingerprint == keys_in(here.data_file).newest.fingerprint


def test_it_is_audited_with_fingerprints_and_numbers(install):
    here = install().start()
    here.make_keys(3)
    old = keys_in(here.data_file).newest.fingerprint
    here.rotation.rotate(actor=ACTOR)
    new = keys_in(here.data_file).newest.fingerprint
    assert here.audited()[-2:] == [
        ("master_key_rotation_started", {"older": [old]}),
        ("master_key_rotated", {"older": [old], "resealed": 4, "unopened": 0}),
    ]
    with here.uow.read() as reader:
        from ucm.store import tables

        rows = reader.session.execute(tables.audit.select()).all()
    assert rows[-1].resource_id == new


def test_a_key_that_is_made_between_two_batches_is_not_lost(install):
    here = install().start()
    here.make_keys(450)
    made = []

    def progress(done, total):
        if not made:
            made.extend(here.make_keys(5))

    here.rotation.rotate(actor=ACTOR, progress=progress)
    assert here.use_every_key() == 455
    assert sealed_under(here, keys_in(here.data_file)) == 455


def test_what_was_sealed_before_and_committed_after_the_walk_is_found_by_the_next_one(install):
    """A thread may hold a secret sealed under the old key while the rotation walks."""
    late = []
    here = install(grace=0.3, wait=lambda seconds: late.append(seconds) or add())
    here.start().make_keys(2)
    old = keys_in(here.data_file)
    record = here.keys.make(here.stored()[0].record.spec, label="late")

    def add():
        from ucm.api.keys import KeyPurpose

        if len(late) == 1:
            with here.uow.begin(ACTOR) as tx:
                here.keys.keep(record, purpose=KeyPurpose.SUBJECT, label="late", tx=tx)
        threading.Event().wait(0.05)

    here.rotation.rotate(actor=ACTOR)
    assert old.opens(record.sealed)
    assert here.use_every_key() == 3
    assert sealed_under(here, keys_in(here.data_file)) == 3


def test_a_row_that_changes_while_it_is_resealed_keeps_the_change(install):
    from ucm.store import sealed

    here = install().start()
    here.make_keys(1)
    with here.uow.read() as reader:
        column = next(
            each for each in sealed.sealed_columns(reader.session) if each.name == "core_key.sealed"
        )
        (value,) = sealed.batch(reader.session, column, after=None, size=10)
    with here.uow.begin(ACTOR) as tx:
        assert sealed.replace(tx.session, column, value, new="ENC:newer")
    with here.uow.begin(ACTOR) as tx:
        assert not sealed.replace(tx.session, column, value, new="ENC:resealed")
    assert here.stored()[0].record.sealed == "ENC:newer"


def test_secrets_of_a_plugin_that_is_not_loaded_are_rotated_too(install):
    here = install().start()
    away = Table(
        "gone_token",
        MetaData(),
        Column("realm", Text, primary_key=True),
        Column("number", Integer, primary_key=True),
        Column("secret", Text),
        Column("note", Text),
    )
    with here.uow.begin(ACTOR) as tx:
        away.create(tx.session.connection())
        for number in range(3):
            secret = here.master_key.keyring.seal(b"token %d" % number)
            tx.session.execute(
                away.insert().values(realm="a", number=number, secret=secret, note="plain")
            )
    try:
        here.rotation.rotate(actor=ACTOR)
        keys = keys_in(here.data_file)
        with here.uow.read() as reader:
            rows = reader.session.execute(away.select().order_by(away.c.number)).all()
        assert [keys.unseal(row.secret) for row in rows] == [b"token 0", b"token 1", b"token 2"]
        assert {row.note for row in rows} == {"plain"}
    finally:
        with here.uow.begin(ACTOR) as tx:
            tx.session.execute(text("DROP TABLE gone_token"))


def test_a_secret_that_no_key_opens_is_reported_and_left_alone(install, caplog):
    here = install().start()
    here.make_keys(2)
    foreign = MasterKeys([MasterKey.generate()]).seal(b"from another life")
    with here.uow.begin(ACTOR) as tx:
        tx.session.execute(text("UPDATE core_key SET sealed = :s WHERE id = 1"), {"s": foreign})
    here.rotation.rotate(actor=ACTOR)
    assert "core_key.sealed, row (1,)" in caplog.text
    assert here.audited()[-1][1]["unopened"] == 1
    assert here.stored()[0].record.sealed == foreign
    assert len(keys_in(here.data_file).keys) == 1


@pytest.mark.parametrize("batches", [1, 3, 6])
def test_killed_in_the_middle_it_leaves_every_key_usable_and_is_finished_later(
    install, process, batches
):
    here = install().start()
    here.make_keys(1000)
    old = keys_in(here.data_file)
    child = process("rotate")
    for _ in range(batches):
        assert child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()

    between = keys_in(here.data_file)
    assert between.older == old.keys
    moved = sealed_under(here, between)
    assert moved > 0
    if batches < 5:
        assert moved < 1000
    after = install().start()
    assert after.use_every_key() == 1000
    assert after.rotation.status().state is RotationState.UNFINISHED

    after.rotation.resume()
    assert keys_in(here.data_file).keys == (between.newest,)
    assert sealed_under(after, keys_in(here.data_file)) == 1000
    assert after.use_every_key() == 1000
    assert here.use_every_key() == 1000  # a process that was there all the time


def test_killed_before_the_first_batch_it_leaves_both_keys(install):
    here = install().start()
    here.make_keys(3)
    both = keys_in(here.data_file).preceded_by(MasterKey.generate())
    here.data_file.write_text(both.render())
    again = install().start()
    assert again.use_every_key() == 3
    again.rotation.resume()
    assert keys_in(here.data_file).keys == (both.newest,)
    assert again.use_every_key() == 3


def test_killed_after_the_old_key_is_gone_it_still_notes_the_end(install):
    here = install().start()
    here.make_keys(3)
    here.rotation.rotate(actor=ACTOR)
    with here.uow.begin(ACTOR) as tx:
        tx.secrets.rename(fingerprint="the old one")
    again = install().start()
    assert again.rotation.status().state is RotationState.UNFINISHED
    again.rotation.resume()
    assert again.rotation.status().state is RotationState.IDLE
    assert again.audited()[-1][0] == "master_key_rotated"
    assert again.use_every_key() == 3


def test_a_key_that_is_made_known_before_its_rotation_stays_known(install):
    """Several machines: below the present key everywhere, then above it everywhere, then rotate."""
    here = install().start()
    here.make_keys(3)
    old, new = keys_in(here.data_file).newest, MasterKey.generate()
    here.data_file.write_text(MasterKeys([old, new]).render())
    assert here.rotation.status().state is RotationState.IDLE
    here.rotation.resume()
    assert keys_in(here.data_file).keys == (old, new)

    here.data_file.write_text(MasterKeys([new, old]).render())
    assert here.rotation.status().state is RotationState.UNFINISHED
    here.rotation.rotate(actor=ACTOR)
    assert keys_in(here.data_file).keys == (new,)
    assert here.use_every_key() == 3


def test_resuming_without_an_unfinished_rotation_changes_nothing(install):
    here = install().start()
    here.make_keys(1)
    before = here.data_file.read_text(), here.stored(), here.audited()
    here.rotation.resume()
    assert (here.data_file.read_text(), here.stored(), here.audited()) == before


def test_it_stops_when_told_and_goes_on_later(install):
    here = install().start()
    here.make_keys(450)
    status = here.rotation.rotate(actor=ACTOR, stopping=lambda: True)
    assert status.state is RotationState.UNFINISHED
    assert here.use_every_key() == 450
    here.rotation.resume()
    assert here.rotation.status().state is RotationState.IDLE
    assert here.use_every_key() == 450


def test_another_process_works_on_through_two_rotations(install, process):
    here = install(grace=0.5).start()
    here.make_keys(300)
    child = process("work")
    assert child.stdout.readline() == "working\n"
    for _ in range(2):
        here.rotation.rotate(actor=ACTOR)
    out, err = child.communicate("")
    assert child.returncode == 0, err
    made = int(out)
    assert made > 0
    assert here.use_every_key() == 300 + made
    assert sealed_under(here, keys_in(here.data_file)) == 300 + made


def test_two_rotations_do_not_run_at_once(install, process):
    here = install().start()
    here.make_keys(3)
    child = process("locked")
    assert child.stdout.readline() == "locked\n"
    before = here.data_file.read_text()
    for attempt in (here.rotation.rotate, here.rotation.start):
        with pytest.raises(Conflict):
            attempt(actor=ACTOR)
    here.rotation.resume()
    assert here.data_file.read_text() == before
    status = here.rotation.status()
    assert status.state is RotationState.RUNNING
    assert (status.done, status.total) == (3, 10)


def test_started_in_the_background_it_answers_at_once_and_finishes(install):
    reached, go_on = threading.Event(), threading.Event()

    def wait(seconds):
        reached.set()
        go_on.wait(10)

    here = install(grace=0.2, wait=wait).start()
    here.make_keys(5)
    status = here.rotation.start(actor=ACTOR)
    assert status.state is RotationState.RUNNING
    assert len(keys_in(here.data_file).keys) == 2
    assert reached.wait(10)
    assert here.rotation.status().done == 6
    with pytest.raises(Conflict):
        here.rotation.start(actor=ACTOR)
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "master-key-rotation":
            thread.join(10)
    assert here.rotation.status().state is RotationState.IDLE
    assert here.use_every_key() == 5
    assert len(keys_in(here.data_file).keys) == 1


def test_a_key_from_the_environment_is_rotated_where_it_is_set(install):
    old, new = MasterKey.generate(), MasterKey.generate()
    before = install(environment=old.reveal()).start()
    before.make_keys(3)
    with pytest.raises(Conflict, match="KEY_ENCRYPTION_KEY") as refused:
        before.rotation.rotate(actor=ACTOR)
    assert "new key, a comma and the old key" in refused.value.hint

    between = install(environment=f"{new.reveal()},{old.reveal()}").start()
    between.rotation.rotate(actor=ACTOR)
    after = install(environment=new.reveal()).start()
    assert not after.master_key.state().safe_mode
    assert after.use_every_key() == 3


def test_in_safe_mode_nothing_is_rotated(install):
    install().start().make_keys(1)
    here = install()
    here.data_file.unlink()
    here.start()
    with pytest.raises(SafeMode):
        here.rotation.rotate(actor=ACTOR)
    here.rotation.resume()
    assert not here.data_file.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file that root cannot replace: a mount")
def test_a_key_file_that_cannot_be_replaced_stops_the_rotation_before_it_begins(install, tmp_path):
    import subprocess

    here = install()
    here.system_file.write_text(MasterKey.generate().reveal())
    here.start().make_keys(2)
    source = tmp_path / "mounted"
    source.write_text(here.system_file.read_text())
    source.chmod(0o600)
    if subprocess.run(["mount", "--bind", source, here.system_file], check=False).returncode:
        pytest.skip("mounts are not allowed here")
    try:
        here = install().start()
        sealed = [key.record.sealed for key in here.stored()]
        with pytest.raises(Conflict, match="cannot be replaced") as refused:
            here.rotation.rotate(actor=ACTOR)
        assert "mount its directory" in refused.value.hint
        assert [key.record.sealed for key in here.stored()] == sealed
        assert len(keys_in(here.system_file).keys) == 1
        assert here.rotation.status().state is RotationState.IDLE
    finally:
        subprocess.run(["umount", here.system_file], check=True)


def test_a_file_that_the_operator_changed_meanwhile_is_not_overwritten(install):
    here = install(grace=0.1).start()
    here.make_keys(1)
    changed = []

    def progress(done, total):
        if not changed:
            third = keys_in(here.data_file).preceded_by(MasterKey.generate())
            here.data_file.write_text(third.render())
            changed.append(third)

    with pytest.raises(Conflict, match="was changed during the rotation"):
        here.rotation.rotate(actor=ACTOR, progress=progress)
    assert keys_in(here.data_file).keys == changed[0].keys
    assert here.use_every_key() == 1
    here.rotation.resume()
    assert keys_in(here.data_file).keys == changed[0].keys[:1]
    assert here.use_every_key() == 1
