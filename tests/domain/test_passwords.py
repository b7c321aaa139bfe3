"""Password rules and hashes."""

import pytest

from ucm.domain.passwords import SPECIAL_CHARACTERS, PasswordHasher, PasswordRules

GOOD = "Str0ng-enough"


def codes(password, *, rules=None, username="alice"):
    rules = rules or PasswordRules()
    return {one.code for one in rules.violations(password, username=username, pointer="/password")}


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        (GOOD, set()),
        ("Aa1!aaa", {"password-too-short"}),
        ("Aa1!aaaa", set()),
        ("Aa1!" + "a" * 124, set()),
        ("Aa1!" + "a" * 125, {"password-too-long"}),
        ("str0ng-enough", {"password-needs-uppercase"}),
        ("STR0NG-ENOUGH", {"password-needs-lowercase"}),
        ("Strong-enough", {"password-needs-digit"}),
        ("Str0ngenough", {"password-needs-special"}),
        ("My-Alice-1", {"password-contains-username"}),
        ("", {
            "password-too-short",
            "password-needs-uppercase",
            "password-needs-lowercase",
            "password-needs-digit",
            "password-needs-special",
        }),
    ],
)  # fmt: skip
def test_every_broken_rule_is_named(password, expected):
    assert codes(password) == expected


@pytest.mark.parametrize("character", SPECIAL_CHARACTERS)
def test_each_special_character_counts(character):
    assert codes(f"Str0ngenough{character}") == set()


def test_switched_off_rules_do_not_count():
    rules = PasswordRules(uppercase=False, lowercase=False, digit=False, special=False)
    assert codes("12345678", rules=rules) == set()
    assert len(rules.sentences()) == 2


def test_a_hash_is_argon2id_salted_and_verifies_its_password_only():
    hasher = PasswordHasher(memory_kib=1024, passes=1)
    one, other = hasher.hash(GOOD), hasher.hash(GOOD)
    assert one.startswith("$argon2id$v=19$m=1024,t=1,p=1$")
    assert one != other
    assert hasher.verify(one, password=GOOD)
    assert not hasher.verify(one, password=GOOD + "x")
    assert not hasher.verify("not a hash", password=GOOD)


def test_the_defaults_are_at_least_the_recommended_minimum():
    stored = PasswordHasher().hash(GOOD)
    parameters = dict(part.split("=") for part in stored.split("$")[3].split(","))
    assert int(parameters["m"]) >= 19_456
    assert int(parameters["t"]) >= 2


def test_hashes_of_other_costs_are_made_anew():
    old = PasswordHasher(memory_kib=1024, passes=1).hash(GOOD)
    now = PasswordHasher(memory_kib=2048, passes=1)
    assert now.needs_rehash(old)
    assert not now.needs_rehash(now.hash(GOOD))
    assert now.needs_rehash("not a hash")
    now.verify_nobody(GOOD)  # raises nothing, whatever the password
