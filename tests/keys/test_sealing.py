"""Sealing: what a master key opens, what it shows, and what a key file may hold."""

import base64

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from ucm.api.errors import Forbidden, Invalid, KeyUnavailable, SafeMode
from ucm.api.services import Sealer
from ucm.domain.sealing import Keyring, MasterKey, MasterKeys, OwnedSealer, is_sealed


@pytest.fixture
def keys():
    return MasterKeys([MasterKey.generate()])


@given(st.binary(max_size=5000))
def test_what_was_sealed_comes_back(secret):
    keys = MasterKeys([MasterKey.generate()])
    assert keys.unseal(keys.seal(secret)) == secret


def test_a_sealed_text_is_marked_and_is_a_fernet_token(keys):
    sealed = keys.seal(b"secret")
    assert is_sealed(sealed)
    assert sealed.startswith("ENC:gAAAA")
    assert Fernet(keys.newest.reveal()).decrypt(sealed.removeprefix("ENC:")) == b"secret"


def test_the_same_secret_never_looks_the_same(keys):
    assert keys.seal(b"secret") != keys.seal(b"secret")


def test_another_key_does_not_open_it_and_the_error_says_what_to_do(keys):
    other = MasterKeys([MasterKey.generate()])
    with pytest.raises(KeyUnavailable, match="another master key") as refused:
        other.unseal(keys.seal(b"secret"))
    assert not isinstance(refused.value, SafeMode)
    assert "Restore" in refused.value.hint


@pytest.mark.parametrize("place", [5, 20, -2])
def test_a_changed_text_does_not_open(keys, place):
    sealed = keys.seal(b"secret")
    changed = list(sealed)
    changed[place] = "A" if changed[place] != "A" else "B"
    with pytest.raises(KeyUnavailable):
        keys.unseal("".join(changed))


def test_a_text_without_the_mark_is_not_taken_for_a_secret(keys):
    with pytest.raises(KeyUnavailable, match="without encryption"):
        keys.unseal("-----BEGIN PRIVATE KEY-----")


@pytest.mark.parametrize("rubbish", ["ENC:", "ENC:x", "ENC:\x00", "ENC:gAAAAA", "ENC:ü"])
def test_rubbish_behind_the_mark_is_refused(keys, rubbish):
    with pytest.raises(KeyUnavailable):
        keys.unseal(rubbish)
    assert not keys.is_current(rubbish)


def test_the_newest_key_seals_and_every_key_unseals(keys):
    old = keys.seal(b"old")
    both = keys.preceded_by(MasterKey.generate())
    assert both.unseal(old) == b"old"
    new = both.seal(b"new")
    assert both.is_current(new)
    assert not both.is_current(old)
    assert not keys.opens(new)


def test_resealing_moves_a_secret_to_the_newest_key(keys):
    both = keys.preceded_by(MasterKey.generate())
    moved = both.reseal(keys.seal(b"secret"))
    assert both.without_older().unseal(moved) == b"secret"


def test_keys_and_keyrings_do_not_show_themselves(keys):
    encoded = keys.newest.reveal()
    ring = Keyring(sealing=lambda: keys, unsealing=lambda: keys)
    for thing in (keys, keys.newest, ring):
        for text in (repr(thing), str(thing), f"{thing}"):
            assert encoded not in text
            assert base64.urlsafe_b64decode(encoded).hex() not in text
    assert keys.newest.fingerprint in repr(keys)


def test_fingerprints_tell_keys_apart_and_are_stable():
    key = MasterKey.generate()
    assert MasterKey(key.reveal()).fingerprint == key.fingerprint
    assert MasterKey.generate().fingerprint != key.fingerprint
    # Unpadded or re-encoded spellings of the same 32 bytes are the same key.
    assert MasterKey(key.reveal() + "\n").fingerprint == key.fingerprint


def test_the_file_holds_one_key_a_line_newest_first(keys):
    both = keys.preceded_by(MasterKey.generate())
    assert both.render() == f"{both.newest.reveal()}\n{keys.newest.reveal()}\n"
    assert MasterKeys.parse(both.render()).keys == both.keys


def test_comments_blank_lines_commas_and_repeated_keys_are_understood(keys):
    key, other = keys.newest.reveal(), MasterKey.generate().reveal()
    text = f"# made by hand\n\n{key},{other}\r\n  {key}\n"
    assert [each.reveal() for each in MasterKeys.parse(text).keys] == [key, other]


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n"])
def test_a_file_without_a_key_is_refused(text):
    with pytest.raises(Invalid, match="at least one key"):
        MasterKeys.parse(text)


@pytest.mark.parametrize(
    "wrong", ["password", "A" * 43, base64.b64encode(b"x" * 31).decode(), "ü" * 44]
)
def test_a_wrong_key_is_named_by_its_place_and_not_shown(keys, wrong):
    with pytest.raises(Invalid, match="Key 2:") as refused:
        MasterKeys.parse(f"{keys.newest.reveal()}\n{wrong}\n")
    shown = f"{refused.value.detail} {refused.value.hint}"
    assert wrong not in shown
    assert "44 characters" in shown


def test_the_keyring_asks_for_the_keys_at_every_use(keys):
    now = [keys]
    ring: Sealer = Keyring(sealing=lambda: now[0], unsealing=lambda: now[0])
    sealed = ring.seal(b"secret")
    now[0] = keys.preceded_by(MasterKey.generate())
    assert ring.unseal(sealed) == b"secret"
    assert not keys.opens(ring.seal(b"later"))


def test_a_seal_opens_for_its_owner_only():
    now = MasterKeys([MasterKey.generate()])
    core: Sealer = Keyring(sealing=lambda: now, unsealing=lambda: now)
    acme: Sealer = OwnedSealer(core, "acme")
    other: Sealer = OwnedSealer(core, "acme2")
    sealed = acme.seal(b"secret")
    assert acme.unseal(sealed) == b"secret"
    for stranger, text in ((other, sealed), (acme, other.seal(b"x")), (acme, core.seal(b"x"))):
        with pytest.raises(Forbidden, match="was not sealed by the plugin"):
            stranger.unseal(text)
    assert acme.unseal(now.reseal(sealed)) == b"secret", "a rotation keeps the owner"
