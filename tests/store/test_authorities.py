"""Authorities and what hangs on them."""

import dataclasses

import pytest

from ucm.api.errors import Conflict, NotFound
from ucm.api.views import CaPublication, PublicationUrls
from ucm.store.csrs import NewCsr
from ucm.store.templates import NewTemplate


def test_an_authority_shows_its_certificate_and_the_urls_that_are_on(
    uow, operator, add_ca, ca_der, clock
):
    publication = CaPublication(
        cdp_enabled=True,
        cdp_urls=("http://pki.example.com/{ca_refid}.crl",),
        ocsp_urls=("http://ocsp.example.com",),
        cps_enabled=True,
        cps_oid="2.5.29.32.0",
        cps_uri="https://example.com/cps",
    )
    with uow.begin(operator) as tx:
        ca_id = add_ca(tx, publication=publication, url_slug="root", path_length=1)
    with uow.read() as reader:
        view = reader.cas.get(ca_id)
        assert reader.cas.by_refid("root") == reader.cas.by_refid(view.refid) == view
        assert reader.cas.by_certificate(view.certificate_id) == view
        assert reader.cas.get(ca_id).certificate is view.certificate  # parsed once
    assert view.certificate.subject.rfc4514_string() == "CN=Root"
    assert (view.der, view.publication, view.created_by) == (ca_der, publication, "olga")
    assert view.urls == PublicationUrls(
        crl_distribution_points=(f"http://pki.example.com/{view.refid}.crl",),
        policy_oid="2.5.29.32.0",
        cps_uri="https://example.com/cps",
    )
    assert (view.path_length, view.is_active, view.offline, view.version) == (1, True, False, 1)


def test_changes_count_versions_and_refuse_stale_ones(uow, operator, add_ca):
    with uow.begin(operator) as tx:
        ca_id = add_ca(tx)
        changed = tx.cas.update(ca_id, version=1, name="New", cdp_enabled=True, cdp_urls=("u",))
    assert (changed.version, changed.name, changed.urls.crl_distribution_points) == (
        2,
        "New",
        ("u",),
    )
    with pytest.raises(Conflict, match="meanwhile"), uow.begin(operator) as tx:
        tx.cas.update(ca_id, version=1, name="Stale")
    with pytest.raises(TypeError, match="offline"), uow.begin(operator) as tx:
        tx.cas.update(ca_id, offline=True)
    with uow.begin(operator) as tx:
        assert tx.cas.set_offline(ca_id, offline=True).offline


def test_names_of_authorities_in_urls_are_unique(uow, operator, add_ca):
    with uow.begin(operator) as tx:
        add_ca(tx, 900_001, url_slug="root")
        second = add_ca(tx, 900_002)
    with pytest.raises(Conflict, match="url_slug"), uow.begin(operator) as tx:
        tx.cas.update(second, url_slug="root")


def test_deletion_is_refused_below_and_beside_until_the_authority_is_bare(
    uow, operator, add_ca, certificate
):
    with uow.begin(operator) as tx:
        root = add_ca(tx, 900_001)
        child = add_ca(tx, 900_002, parent_id=root, own={"ca_id": root})
        leaf = tx.certificates.add(certificate(1, ca_id=child))
    for ca_id in (root, child):
        with pytest.raises(Conflict), uow.begin(operator) as tx:
            tx.cas.delete(ca_id)
    with uow.begin(operator) as tx:
        assert tx.certificates.counts_by_ca() == {root: 1, child: 1}
        assert [view.id for view in tx.cas.children(root)] == [child]
        tx.certificates.delete(leaf)
        tx.cas.delete(child)
        tx.cas.delete(root)
    with uow.read() as reader:
        assert reader.cas.all() == []
        assert list(reader.certificates.stream(is_ca=True)) == []
        with pytest.raises(NotFound):
            reader.cas.get(root)


def test_a_renewed_authority_is_deleted_with_all_its_certificates(
    uow, operator, add_ca, certificate, ca_der
):
    with uow.begin(operator) as tx:
        root = add_ca(tx)
        old = tx.cas.get(root).certificate_id
        row = dataclasses.replace(certificate(5, is_ca=True, ca_id=root, renews=old), der=ca_der)
        new = tx.certificates.add(row)
        assert (
            tx.cas.set_certificate(
                root, certificate_id=new, key=None, path_length=None
            ).certificate_id
            == new
        )
        tx.cas.delete(root)
    with uow.read() as reader:
        assert list(reader.certificates.stream(is_ca=True)) == []


def test_requests_wait_are_signed_once_and_survive_their_certificate(uow, operator, certificate):
    new = NewCsr(
        refid="r",
        description="Printer",
        subject="CN=printer.example.com",
        common_name="printer.example.com",
        der=b"csr",
        key_type="EC-P256",
        spki_sha256="aa",
        san_dns=("printer.example.com",),
        source="api",
    )
    with uow.begin(operator) as tx:
        key = tx.csrs.add(new)
        signed = tx.certificates.add(certificate(1))
        assert tx.csrs.page(signed=False, search="PRINTER example").total == 1
        assert tx.csrs.page(signed=False, search="100%").total == 0
        tx.csrs.mark_signed(key, certificate_id=signed)
        assert tx.csrs.page(signed=False).total == 0
        assert tx.csrs.page(signed=True).items[0].certificate_id == signed
    with pytest.raises(Conflict, match="already signed"), uow.begin(operator) as tx:
        tx.csrs.mark_signed(key, certificate_id=signed)
    with uow.begin(operator) as tx:
        tx.certificates.delete(signed)
        view = tx.csrs.get(key)
    assert (view.certificate_id, view.san_dns, view.der) == (None, ("printer.example.com",), b"csr")


def test_templates_have_unique_names_versions_and_users(uow, operator, certificate, clock):
    new = NewTemplate(
        name="Web Server",
        template_type="web_server",
        key_type="EC-P256",
        extensions_template={"key_usage": ["digitalSignature"]},
    )
    with uow.begin(operator) as tx:
        key = tx.templates.add(new)
        used = tx.certificates.add(certificate(1, template_id=key))
    with pytest.raises(Conflict, match="name"), uow.begin(operator) as tx:
        tx.templates.add(dataclasses.replace(new, name="WEB server"))
    with uow.begin(operator) as tx:
        view = tx.templates.update(key, version=1, name="Web", validity_days=90)
        assert tx.templates.by_name("wEB") == view
        assert tx.certificates.counts_by_template() == {key: 1}
    assert (view.version, view.validity_days, view.updated_by) == (2, 90, "olga")
    assert view.extensions_template == {"key_usage": ["digitalSignature"]}
    with pytest.raises(Conflict, match="meanwhile"), uow.begin(operator) as tx:
        tx.templates.update(key, version=1, name="Stale")
    with pytest.raises(Conflict, match="in use"), uow.begin(operator) as tx:
        tx.templates.delete(key)
    with uow.begin(operator) as tx:
        tx.certificates.delete(used)
        tx.templates.delete(key)
        assert tx.templates.all() == []
