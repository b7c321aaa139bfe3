"""``ucm ca``: authorities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

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
from ucm.services.ca_orders import CaOrder, key_spec_of
from ucm.services.cas import ListedCa
from ucm.services.exports import ExportRequest
from ucm.services.orders import SubjectOrder
from ucm.web.v2.documents.cas import ca_detail_json, ca_json

COLUMNS = ("id", "descr", "type", "key_type", "status", "valid_to", "certs")


@click.group()
def ca() -> None:
    """Create, list, show and export authorities."""


@ca.command()
@click.argument("common_name")
@click.option("--parent", type=int, help="Id of the authority that signs it; none makes a root.")
@click.option("--key-type", help="RSA-3072, EC-P256, EC-P384, ED25519, ML-DSA-65, ...")
@click.option("--years", type=int, help="Validity in years.")
@click.option("--path-length", type=int, help="How many authorities may stand below it.")
@click.option("--organization")
@click.option("--organizational-unit")
@click.option("--country", help="Two capital letters.")
@click.option("--permit", multiple=True, help="Permitted name, e.g. dns:example.com; repeatable.")
@click.option("--exclude", multiple=True, help="Excluded name; repeatable.")
@json_option
@data_dir_option
def create(as_json: bool, data_dir: Path | None, **given: Any) -> None:
    """Create a root, or an intermediate below --parent."""
    order = CaOrder(
        subject=SubjectOrder(
            common_name=given["common_name"],
            organization=given["organization"],
            organizational_unit=given["organizational_unit"],
            country=given["country"],
        ),
        parent_id=given["parent"],
        key_type=given["key_type"],
        validity_years=given["years"],
        path_length=given["path_length"],
        name_constraints_permitted=given["permit"],
        name_constraints_excluded=given["exclude"],
    )
    with opened(data_dir) as container:
        announce_key(key_spec_of(order))
        made = container.cas.create(order, actor=operator())
        show(_document(container, made), as_json=as_json)


@ca.command("list")
@json_option
@data_dir_option
def list_authorities(as_json: bool, data_dir: Path | None) -> None:
    """Every authority."""
    with opened(data_dir) as container:
        rows = [_document(container, listed) for listed in container.cas.listed()]
    table(rows, COLUMNS, as_json=as_json)


@ca.command("show")
@click.argument("ca_id", type=int)
@json_option
@data_dir_option
def show_authority(ca_id: int, as_json: bool, data_dir: Path | None) -> None:
    """One authority."""
    with opened(data_dir) as container:
        show(_document(container, container.cas.one(ca_id), detail=True), as_json=as_json)


@ca.command()
@click.argument("ca_id", type=int)
@export_options
def export(ca_id: int, request: ExportRequest, out: Path | None, data_dir: Path | None) -> None:
    """Write an authority's certificate to a file or to standard output."""
    with opened(data_dir) as container:
        exported = container.cas.export(ca_id, request, actor=operator())
    write_output(exported.content, out, secret=exported.secret)


def _document(container: Container, listed: ListedCa, *, detail: bool = False) -> dict[str, Any]:
    now, parent, count = container.clock.now(), listed.parent, listed.certificates
    if not detail:
        return ca_json(listed.ca, now=now, parent=parent, certificates=count)
    chain = container.cas.chain(listed.ca.id)
    return ca_detail_json(listed.ca, now=now, parent=parent, certificates=count, chain=chain)
