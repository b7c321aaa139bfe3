"""Who calls: from where, with which session or API key, and whether the route lets them.

Every route is denied unless its view says otherwise: ``requires`` names permissions, ``public``
gives a reason. An application with an unmarked route does not start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from flask import Flask, Response, request

from ucm.api.actor import Actor
from ucm.api.errors import Forbidden, Invalid, Unauthenticated
from ucm.api.web import ACTOR_KEY, Access, access_of
from ucm.services.apikeys import ApiKeyService
from ucm.services.audit import AuditService
from ucm.services.auth import AuthService, Client, Identified
from ucm.web.csrf import SAFE_METHODS, CsrfTokens
from ucm.web.errors import CsrfFailed, PasswordChangeRequired
from ucm.web.requests import StrictRequest

SESSION_COOKIE = "session"
API_KEY_HEADER = "X-API-Key"
CSRF_HEADER = "X-CSRF-Token"
CLIENT_KEY = "ucm.origin"
SESSION_KEY = "ucm.session"

Network = IPv4Network | IPv6Network
_MAX_AGENT = 255


class UnmarkedRoute(RuntimeError):
    """A view says neither ``requires`` nor ``public``; such an application must not serve."""


@lru_cache(maxsize=8)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ip_network(text, strict=False) for text in texts)


@lru_cache(maxsize=4096)
def _address(text: str) -> str | None:
    """An address without port, brackets and zone; ``None`` when it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def client_address(environ: Mapping[str, object], *, trusted: tuple[str, ...]) -> str | None:
    """Where a request came from.

    Forwarding headers count only when the peer itself is trusted. Of ``X-Forwarded-For`` the last
    address that is not a trusted proxy is taken: what stands before it was written by the client.
    """
    peer = _address(str(environ.get("REMOTE_ADDR") or ""))
    networks = _networks(trusted)
    if peer is None or not networks or not _within(peer, networks):
        return peer
    hops = [_address(hop) for hop in str(environ.get("HTTP_X_FORWARDED_FOR") or "").split(",")]
    for hop in reversed(hops):
        if hop is None:
            break
        if not _within(hop, networks):
            return hop
    return _address(str(environ.get("HTTP_X_REAL_IP") or "")) or peer


def _within(address: str, networks: Iterable[Network]) -> bool:
    parsed = ip_address(address)
    return any(parsed in network for network in networks)


def current_client() -> Client:
    """Where this request came from, as the audit log shows it."""
    client = request.environ.get(CLIENT_KEY)
    return client if isinstance(client, Client) else Client()


@dataclass(frozen=True, slots=True)
class Gate:
    """What the authenticator knows of one route."""

    access: Access
    csrf: bool
    while_password_expired: bool


class Authenticator:
    """Admits or refuses every request before its view runs."""

    def __init__(
        self,
        *,
        auth: AuthService,
        apikeys: ApiKeyService,
        audit: AuditService,
        csrf: CsrfTokens,
        trusted_proxies: Callable[[], tuple[str, ...]],
    ) -> None:
        self._auth = auth
        self._apikeys = apikeys
        self._audit = audit
        self._csrf = csrf
        self._trusted_proxies = trusted_proxies
        self._gates: dict[str, Gate] = {}

    def register(
        self,
        app: Flask,
        *,
        csrf_exempt: frozenset[str] = frozenset(),
        while_password_expired: frozenset[str] = frozenset(),
    ) -> None:
        """Guard every route the application has now.

        ``csrf_exempt`` and ``while_password_expired`` are endpoint names. Raises ``UnmarkedRoute``
        with all routes that declare no access.
        """
        unmarked = []
        for rule in app.url_map.iter_rules():
            access = access_of(app.view_functions[rule.endpoint])
            if access is None:
                unmarked.append(rule.rule)
                continue
            self._gates[rule.endpoint] = Gate(
                access=access,
                csrf=rule.endpoint not in csrf_exempt,
                while_password_expired=rule.endpoint in while_password_expired,
            )
        if unmarked:
            raise UnmarkedRoute(
                f"routes without requires(...) or public(...): {', '.join(sorted(unmarked))}"
            )
        app.before_request(self._admit)

    def signed_in(self) -> Identified | None:
        """The session of this request, on public views too; ``None`` without a valid one."""
        known = request.environ.get(SESSION_KEY)
        if isinstance(known, Identified):
            return known
        token = request.cookies.get(SESSION_COOKIE)
        if not token:
            return None
        identified = self._auth.identify(token, client=current_client())
        if identified is not None:
            request.environ[SESSION_KEY] = identified
        return identified

    def _admit(self) -> None:
        environ = request.environ
        environ[CLIENT_KEY] = Client(
            ip_address=client_address(environ, trusted=self._trusted_proxies()),
            user_agent=(environ.get("HTTP_USER_AGENT") or "")[:_MAX_AGENT] or None,
        )
        if request.endpoint is None:
            return  # the router's own 404 or 405 follows
        _refuse_nul(environ)
        gate = self._gates[request.endpoint]
        if gate.access.public_reason is not None:
            return
        actor = self._caller(gate)
        environ[ACTOR_KEY] = actor
        missing = [name for name in gate.access.permissions if not actor.may(name)]
        if missing:
            self._audit.denied(actor, missing=missing, method=request.method, path=request.path)
            raise Forbidden(
                f"This needs the permission {', '.join(missing)}.",
                hint="Ask an administrator for a role, or for an API key with that scope.",
                extra={"missing_permissions": missing},
            )

    def _caller(self, gate: Gate) -> Actor:
        key = request.headers.get(API_KEY_HEADER)
        if key is not None:
            # A wrong key never falls back to the session: that would skip the CSRF check below.
            return self._apikeys.identify(key, client=current_client())
        identified = self.signed_in()
        if identified is None:
            raise Unauthenticated(
                "Sign in or send an API key.",
                hint="POST /api/v2/auth/login for a session, or send the header X-API-Key.",
            )
        if gate.csrf and request.method not in SAFE_METHODS:
            self._check_csrf(identified)
        if identified.must_change_password and not gate.while_password_expired:
            raise PasswordChangeRequired(
                "The password of this account must be changed first.",
                hint="POST /api/v2/account/password with current_password and new_password.",
            )
        return identified.actor

    def _check_csrf(self, identified: Identified) -> None:
        token = request.headers.get(CSRF_HEADER)
        if token is None and isinstance(request, StrictRequest):
            token = request.csrf_field
        try:
            self._csrf.check(token, user_id=identified.user.id)
        except CsrfFailed as failure:
            self._audit.csrf_failed(
                identified.actor, detail=failure.detail, method=request.method, path=request.path
            )
            raise


def _refuse_nul(environ: Mapping[str, object]) -> None:
    if "%00" in str(environ.get("QUERY_STRING", "")) or "\0" in str(environ.get("PATH_INFO", "")):
        raise Invalid("NUL must not be part of a URL.", hint="Remove %00 from the request target.")


def set_session_cookie(response: Response, token: str, *, lifetime: int) -> None:
    """Hand the session to the browser; ``lifetime`` in seconds. JavaScript cannot read it."""
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=lifetime,
        secure=True,
        httponly=True,
        samesite="Lax",
        path="/",
    )


def clear_session_cookie(response: Response) -> None:
    """Take the session cookie back."""
    response.delete_cookie(SESSION_COOKIE, path="/", secure=True, httponly=True, samesite="Lax")
