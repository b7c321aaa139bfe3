"""Usages that fit a key, for every kind of key and every wish."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucm.api.keys import KeySpec
from ucm.api.x509 import KEY_USAGES, key_usage
from ucm.domain.keypolicy import (
    CA_USAGES,
    CLIENT_AUTH,
    CODE_SIGNING,
    EMAIL_PROTECTION,
    OCSP_SIGNING,
    SERVER_AUTH,
    TIME_STAMPING,
    leaf_usages,
    purpose_lacks_usage,
    usages_that_fit,
)

PURPOSES = (SERVER_AUTH, CLIENT_AUTH, CODE_SIGNING, EMAIL_PROTECTION, TIME_STAMPING, OCSP_SIGNING)


@given(
    spec=st.sampled_from(list(KeySpec)),
    wanted=st.frozensets(st.sampled_from(list(KEY_USAGES))),
    purposes=st.lists(st.sampled_from(PURPOSES), unique=True),
)
def test_a_leafs_usages_are_never_empty_never_a_cas_and_always_fit(spec, wanted, purposes):
    usages = leaf_usages(wanted, spec=spec, purposes=tuple(purposes))
    assert usages
    assert usages <= usages_that_fit(spec)
    assert not usages & CA_USAGES
    assert not any(purpose_lacks_usage(p, usages) for p in purposes)
    assert key_usage(usages)  # can be encoded: no encipherOnly without keyAgreement


@pytest.mark.parametrize("spec", list(KeySpec))
def test_without_a_wish_there_is_a_default(spec):
    usages = leaf_usages(frozenset(), spec=spec, purposes=(SERVER_AUTH,))
    rsa = spec.value.startswith("RSA")
    assert usages == {"digitalSignature"} | ({"keyEncipherment"} if rsa else set())


def test_kinds_of_keys_serve_what_their_rfcs_say():
    assert "keyAgreement" not in usages_that_fit(KeySpec.RSA_2048)
    assert "keyEncipherment" not in usages_that_fit(KeySpec.EC_P256)
    assert "keyAgreement" in usages_that_fit(KeySpec.EC_P256)
    signing = {"digitalSignature", "nonRepudiation", "keyCertSign", "cRLSign"}
    for spec in (KeySpec.ED25519, KeySpec.ED448, KeySpec.ML_DSA_44, KeySpec.ML_DSA_87):
        assert usages_that_fit(spec) == signing
