"""``ucm cert``: certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from ucm.api.issuance import Held
from ucm.api.keys import KeySpec
from ucm.api.views import CertificateStatus, CertificateView
from ucm.cli.container import (
    data_dir_option,
    json_option,
    opened,
    operator,
    show,
    table,
    write_output,
)
from ucm.cli.exporting import export_options
from ucm.cli.progress import announce_key
from ucm.runtime.container import Container
from ucm.services.exports import ExportRequest
from ucm.services.orders import CertificateOrder, SubjectOrder, key_spec_of_order
from ucm.store.certificate_query import CertificateQuery
from ucm.web.v2.bodies.certificates import Reason, reason_of
from ucm.web.v2.documents.certificates import certificate_detail_json, certificate_json

COLUMNS = ("id", "common_name", "issuer_name", "status", "valid_to", "serial_number")


@click.group()
def cert() -> None:
    """Issue, list, show, revoke and export certificates."""


@cert.command()
@click.option("--ca", "ca_id", type=int, required=True, help="Id of the authority.")
@click.option(
    "--csr",
    type=click.File("rb"),
    help="File with a certification request; - reads standard input. Without it UCM makes the key.",
)
@click.option("--cn", help="Common name.")
@click.option("--san", multiple=True, help="dns:..., ip:..., email:..., uri:...; repeatable.")
@click.option("--key-type", help="RSA-2048, EC-P256, ED25519, ... for a key that UCM makes.")
@click.option("--type", "cert_type", help="server, client, combined, code_signing or email.")
@click.option("--template", type=int, help="Id of a template.")
@click.option("--days", type=int, help="Validity in days.")
@click.option("--description", default="")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="PEM file to write.")
@data_dir_option
def issue(data_dir: Path | None, out: Path | None, **given: Any) -> None:
    """Issue a certificate and print it as PEM."""
    order = CertificateOrder(
        ca_id=given["ca_id"],
        csr=given["csr"].read() if given["csr"] else None,
        subject=SubjectOrder(common_name=given["cn"]),
        names=given["san"],
        key_type=given["key_type"],
        cert_type=given["cert_type"],
        template_id=given["template"],
        validity_days=given["days"],
        description=given["description"],
    )
    with opened(data_dir) as container:
        if order.csr is None:
            announce_key(_key_of(container, order))
        issued = container.certificates.issue(order, actor=operator())
        if isinstance(issued, Held):
            click.echo(f"request {issued.request_id} waits: {issued.reason}", err=True)
            raise SystemExit(3)
        click.echo(f"certificate {issued.id}, serial {issued.serial}", err=True)
        exported = container.certificates.export(issued.id, ExportRequest(), actor=operator())
    write_output(exported.content, out, secret=False)


@cert.command("list")
@click.option("--ca", "ca_ids", type=int, multiple=True, help="Only of this authority; repeatable.")
@click.option(
    "--status", multiple=True, type=click.Choice([status.value for status in CertificateStatus])
)
@click.option("--search", default="", help="Start of a word or label of subject, names or serial.")
@click.option("--page", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--per-page", type=click.IntRange(1, 100), default=50, show_default=True)
@json_option
@data_dir_option
def list_certificates(
    ca_ids: tuple[int, ...],
    status: tuple[str, ...],
    search: str,
    page: int,
    per_page: int,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Certificates, newest first."""
    query = CertificateQuery(
        ca_ids=ca_ids,
        status=tuple(CertificateStatus(value) for value in status),
        search=search,
        page=page,
        per_page=per_page,
    )
    with opened(data_dir) as container:
        found = container.certificates.page(query)
        rows = [_document(container, view) for view in found.items]
    table(rows, COLUMNS, as_json=as_json)
    if not as_json:
        click.echo(f"{len(rows)} of {found.total}", err=True)


@cert.command("show")
@click.argument("certificate_id", type=int)
@json_option
@data_dir_option
def show_certificate(certificate_id: int, as_json: bool, data_dir: Path | None) -> None:
    """One certificate with its extensions and PEM."""
    with opened(data_dir) as container:
        view = container.certificates.get(certificate_id)
        show(_document(container, view, detail=True), as_json=as_json)


@cert.command()
@click.argument("certificate_id", type=int)
@click.option(
    "--reason", type=click.Choice(get_args(Reason)), default="unspecified", show_default=True
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_dir_option
def revoke(certificate_id: int, reason: Reason, yes: bool, data_dir: Path | None) -> None:
    """Revoke a certificate; only certificateHold can be lifted again."""
    with opened(data_dir) as container:
        view = container.certificates.get(certificate_id)
        if not yes:
            click.confirm(f"Revoke {view.subject} (serial {view.serial})?", abort=True)
        container.certificates.revoke(certificate_id, reason=reason_of(reason), actor=operator())
    click.echo(f"revoked {view.subject} (serial {view.serial})")


@cert.command()
@click.argument("certificate_id", type=int)
@export_options
def export(
    certificate_id: int, request: ExportRequest, out: Path | None, data_dir: Path | None
) -> None:
    """Write a certificate to a file or to standard output."""
    with opened(data_dir) as container:
        exported = container.certificates.export(certificate_id, request, actor=operator())
    write_output(exported.content, out, secret=exported.secret)


def _key_of(container: Container, order: CertificateOrder) -> KeySpec:
    if order.template_id is None:
        return key_spec_of_order(order, template_key=None)
    template = container.templates.get(order.template_id).template
    return key_spec_of_order(order, template_key=template.key_type)


def _document(
    container: Container, view: CertificateView, *, detail: bool = False
) -> dict[str, Any]:
    now = container.clock.now()
    carefs = container.cas.refids([view.ca_id] if view.ca_id is not None else [])
    templates = container.templates.names()
    if not detail:
        return certificate_json(view, now=now, carefs=carefs, templates=templates)
    chain = container.certificates.chain_of(view)
    return certificate_detail_json(view, now=now, carefs=carefs, templates=templates, chain=chain)
