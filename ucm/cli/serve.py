"""``ucm serve`` and ``ucm worker``."""

from __future__ import annotations

import gc
import logging
from functools import partial
from pathlib import Path
from typing import Any

import click

from ucm.cli.container import data_dir_option
from ucm.cli.setup import prepare
from ucm.runtime.boot import BootError, BootSettings
from ucm.runtime.clock import SystemClock, SystemIds
from ucm.runtime.container import Container, build_container
from ucm.runtime.worker import run_worker
from ucm.server.config import ServerConfig
from ucm.server.selfsigned import ensure_server_certificate
from ucm.server.serve import serve as run_server
from ucm.server.tls import FileTLSMaterialSource
from ucm.server.worker import CannotStart
from ucm.web.app import Application, create_app


@click.command()
@data_dir_option
@click.option("--host", help="Address of both ports. [UCM_HOST, default 127.0.0.1]")
@click.option("--https-port", type=int, help="Port of the API. [UCM_HTTPS_PORT, default 8443]")
@click.option(
    "--http-port",
    type=int,
    help="Plain-http port of the protocols; 0 is off. [UCM_HTTP_PORT, default 8080]",
)
@click.option("--workers", type=int, help="Web processes. [UCM_WORKERS]")
def serve(**options: Any) -> None:
    """Start the server. The first start makes whatever is missing."""
    gc.disable()  # until run_server() is about to fork
    boot = BootSettings.load(**options)
    log_to_stderr(boot)
    container = prepare(boot)
    config = ServerConfig(
        data_dir=boot.data_dir,
        host=boot.host,
        https_port=boot.https_port,
        http_port=boot.http_port or None,
        workers=boot.workers,
        threads=boot.threads,
        tls_certificate=boot.tls_certificate,
        tls_private_key=boot.tls_private_key,
        trusted_proxies=boot.trusted_proxies,
    )
    ensure_server_certificate(config, clock=SystemClock(), ids=SystemIds())
    status = run_server(
        config,
        application=partial(started, container, app=create_app(container)),
        worker_main=partial(run_worker, container),
        tls=FileTLSMaterialSource(config),
    )
    raise SystemExit(status)


@click.command()
@data_dir_option
def worker(data_dir: Path | None) -> None:
    """Run scheduled jobs and deliver events, for servers that run elsewhere.

    ``ucm serve`` brings a worker of its own; several workers on one database share the jobs.
    """
    boot = BootSettings.load(data_dir=data_dir)
    log_to_stderr(boot)
    run_worker(build_container(boot))


def started(container: Container, *, app: Application) -> Application:
    """The application of one web process; called after the fork."""
    made_for = container.host.contributions
    try:
        container.start(role="web")
    except BootError as error:
        raise CannotStart(f"error: {error}\nhint: {error.hint}") from error
    if container.host.contributions != made_for:  # a plugin did not start: nor do its routes exist
        return create_app(container)
    return app


def log_to_stderr(boot: BootSettings) -> None:
    """One line per record; the service manager adds its own time stamp and keeps them."""
    logging.basicConfig(
        level=boot.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
