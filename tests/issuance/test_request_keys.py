"""The private key that is kept with a certificate is the certificate's own, and of its kind."""

from dataclasses import replace

import pytest

from tests.issuance.conftest import ADMIN, a_csr
from ucm.api.errors import Invalid, NotFound
from ucm.api.issuance import CAParameters, IssuedCertificate
from ucm.api.keys import KeyPurpose, KeyRef
from ucm.api.publickeys import spki_der
from ucm.store import tables


def kept(place, *, purpose=KeyPurpose.SUBJECT):
    """A stored key and its public half."""
    record, spki = place.new_key()
    with place.uow.begin(ADMIN) as tx:
        return tx.keys.add(record, purpose=purpose, label="test"), spki


def refused(place, request, *, code):
    before = place.count(tables.certificate), place.count(tables.key)
    with place.signatures_during() as made, pytest.raises(Invalid) as error:
        place.pipeline.issue(request, actor=ADMIN)
    assert [field.code for field in error.value.fields] == [code]
    assert made() == 0
    assert (place.count(tables.certificate), place.count(tables.key)) == before
    assert not place.audit("certificate_refused")[-1]["success"]


def leaf(place, root, spki, **more):
    named = place.request(root, a_csr())
    csr = named.csr
    return replace(named, csr=None, public_key=spki, subject=csr.subject, names=csr.names, **more)


def test_a_stored_key_is_kept_with_its_certificate(place, root):
    ref, spki = kept(place)
    issued = place.pipeline.issue(leaf(place, root, spki, key=ref), actor=ADMIN)
    assert isinstance(issued, IssuedCertificate)
    assert issued.view.key == ref


def test_a_stored_key_of_another_certificate_is_refused(place, root):
    ref, _ = kept(place)
    _, other = place.new_key()
    refused(place, leaf(place, root, other, key=ref), code="key-mismatch")
    refused(place, replace(place.request(root), key=ref), code="key-mismatch")


def test_a_new_key_that_is_not_the_certified_one_is_refused(place, root):
    record, _ = place.new_key()
    _, other = place.new_key()
    refused(place, leaf(place, root, other, new_key=record), code="key-mismatch")


def test_an_authority_is_not_given_another_ones_key(place, root):
    def authority(spki, **more):
        return replace(
            leaf(place, root, spki, **more),
            profile="intermediate-ca",
            names=(),
            ca_parameters=CAParameters(),
        )

    _, other = place.new_key()
    record, _ = place.new_key()
    refused(place, authority(other, key=root.key), code="key-mismatch")
    refused(place, authority(other, new_key=record), code="key-mismatch")
    refused(place, replace(place.self_renewal(root), public_key=other), code="key-mismatch")
    subject_key, spki = kept(place)
    refused(place, authority(spki, key=subject_key), code="key-purpose")


def test_the_key_of_an_authority_is_kept_with_no_other_certificate(place, root):
    spki = spki_der(root.certificate.public_key())
    refused(place, leaf(place, root, spki, key=root.key), code="key-purpose")
    disguised = KeyRef(root.key.id, KeyPurpose.SUBJECT)
    with pytest.raises(NotFound):
        place.pipeline.issue(leaf(place, root, spki, key=disguised), actor=ADMIN)


def test_a_stored_and_a_new_key_exclude_each_other(place, root):
    ref, spki = kept(place)
    record, _ = place.new_key()
    with pytest.raises(Invalid, match="either"):
        place.pipeline.issue(leaf(place, root, spki, key=ref, new_key=record), actor=ADMIN)
