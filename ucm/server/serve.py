"""`serve`: both listeners, the workers, the scheduler, until told to stop."""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
import sys
from collections.abc import Callable

from ucm.server.arbiter import ServerApplication, ServerArbiter
from ucm.server.config import ServerConfig
from ucm.server.exchange import WSGIApplication
from ucm.server.memory import return_large_blocks, settle_before_fork
from ucm.server.scheduler import SchedulerProcess
from ucm.server.tls import TLSContexts, TLSMaterialSource

DESCRIPTORS = 16384


class CannotListen(Exception):
    """A port cannot be opened; says which, why, and what to do."""


def serve(
    config: ServerConfig,
    *,
    application: Callable[[], WSGIApplication],
    worker_main: Callable[[], None],
    tls: TLSMaterialSource,
) -> int:
    """Serve until SIGTERM or SIGINT and return the exit status.

    ``application`` is called once in each worker after the fork, and may raise ``CannotStart``
    for what only the operator can correct. Optional attributes of what it returns are
    ``protocol_prefixes``, ``hot_paths``, ``shutting_down`` (an Event that is set before the worker
    drains), ``client_ca_certificates`` (callable; DER of the authorities that the application
    knows, asked for once a second on a thread) and ``close``. ``worker_main`` runs in one process
    of its own until SIGTERM, and is started again when it ends. Import and build before this call
    what both need: the processes then share its memory. Nothing may be open: connections to
    databases and tokens do not survive a fork.

    Raises CannotListen and TLSUnusable before anything is started.
    """
    contexts = TLSContexts(tls, request_client_certificate=config.request_client_certificate)
    sockets = _listeners(config)
    app = ServerApplication(
        config, application=application, contexts=contexts, banner=_banner(config, sockets)
    )
    arbiter = ServerArbiter(app, sockets=sockets, scheduler=SchedulerProcess(worker_main))
    parent = os.getpid()
    _raise_descriptor_limit()
    return_large_blocks()
    settle_before_fork()
    try:
        arbiter.run()
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else 1
    else:
        status = 0
    if os.getpid() != parent:
        # A worker that ended: what the caller of serve() does next is the parent's business.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _raise_descriptor_limit() -> None:
    # The usual soft limit of 1024 is fewer than the connections that one worker accepts.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listeners(config: ServerConfig) -> list[socket.socket]:
    ports = [("https", config.https_port, "--https-port")]
    if config.http_port is not None:
        ports.append(("http", config.http_port, "--http-port"))
    opened: list[socket.socket] = []
    for name, port, option in ports:
        try:
            opened.append(_listen(config.host, port=port, backlog=config.backlog))
        except OSError as error:
            for listener in opened:
                listener.close()
            raise CannotListen(
                f"cannot listen for {name} on {config.host} port {port}: {_reason(error)} "
                f"({option} chooses another port, --host another address)"
            ) from None
    return opened


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process uses it; stop that process"
    if error.errno == errno.EACCES:
        return "ports below 1024 need a privilege; use a higher one and forward to it"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return error.strerror or str(error)


def _listen(host: str, *, port: int, backlog: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and address[0] == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # "::" is every address
        listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _banner(config: ServerConfig, sockets: list[socket.socket]) -> str:
    host = f"[{config.host}]" if ":" in config.host else config.host
    ports = [listener.getsockname()[1] for listener in sockets]
    line = f"UCM is ready: https://{host}:{ports[0]}"
    if len(ports) > 1:
        line += f" (plain http for protocols: http://{host}:{ports[1]})"
    return line
