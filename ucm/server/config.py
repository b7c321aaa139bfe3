"""What the server is told at start; fixed for its life."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one client may cost. Sizes are bytes, times are seconds.

    A body must arrive within ``body_grace + size_so_far / body_min_rate``; a reader of an answer
    that takes nothing for ``write_stall`` seconds is cut off.
    """

    target_bytes: int = 8 * 1024
    header_bytes: int = 32 * 1024
    header_count: int = 100
    header_time: float = 10.0
    handshake_time: float = 10.0
    idle_time: float = 30.0
    body_bytes: int = 50 * MIB
    body_memory: int = 1 * MIB
    body_grace: float = 10.0
    body_min_rate: int = 1024
    write_stall: float = 30.0
    connections: int = 4096
    pipelined: int = 16
    queue: int = 256

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"server limit {name} must be above zero")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """Addresses, processes, limits. Port 0 lets the system choose; the start-up line names what it
    chose.

    ``trusted_proxies`` are CIDRs or addresses whose ``X-Forwarded-*`` and ``X-SSL-Client-*``
    headers reach the application; ``drain_delay`` seconds pass between "not ready" and the closing
    of the listeners, for load balancers that poll readiness. Raises ValueError for what cannot be
    served.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    https_port: int = 8443
    http_port: int | None = 8080
    workers: int = 2
    threads: int = 8
    tls_certificate: Path | None = None
    tls_private_key: Path | None = None
    request_client_certificate: bool = True
    trusted_proxies: tuple[str, ...] = ()
    graceful_timeout: float = 30.0
    drain_delay: float = 0.0
    worker_timeout: int = 60
    backlog: int = 1024
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for port in (self.https_port, self.http_port):
            if port is not None and not 0 <= port <= 65535:
                raise ValueError(
                    f"port {port} is outside 0-65535; choose another or 0 for any free one"
                )
        if self.https_port and self.https_port == self.http_port:
            raise ValueError(
                f"https and plain http cannot share port {self.https_port}; choose two different "
                "ports"
            )
        if self.workers < 1 or self.threads < 1:
            raise ValueError("workers and threads must be at least 1")
        if (self.tls_certificate is None) != (self.tls_private_key is None):
            raise ValueError(
                "a TLS certificate and its private key come together; give both paths or neither"
            )
        self.proxy_networks()

    @property
    def certificate_path(self) -> Path:
        """PEM chain of the server, leaf first."""
        return self.tls_certificate or self.data_dir / "tls" / "server.crt"

    @property
    def private_key_path(self) -> Path:
        """Unencrypted PEM key of the leaf."""
        return self.tls_private_key or self.data_dir / "tls" / "server.key"

    def proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The trusted proxies parsed; a bare address is a network of one."""
        networks = []
        for text in self.trusted_proxies:
            try:
                networks.append(ip_network(text, strict=False))
            except ValueError:
                raise ValueError(
                    f"trusted proxy {text!r} is no address or CIDR; write for example 10.0.0.0/8 "
                    "or ::1"
                ) from None
        return tuple(networks)
