"""A whole installation: broken plugins are contained, guards stop issuance, settings typed."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

import pytest
from flask import Blueprint
from flask_openapi3 import APIBlueprint
from pydantic import Field

from ucm.api import PluginContext, PluginSettings, Routes, Secret, hookimpl, hookspec
from ucm.api.actor import Actor
from ucm.api.errors import (
    Forbidden,
    KeyUnavailable,
    LintFailed,
    NotFound,
    PluginUnavailable,
    PolicyDenied,
    SafeMode,
)
from ucm.api.events import CertificateIssued, Event
from ucm.api.issuance import Denial, Hold, IssuanceRequest, IssuedCertificate, Operation
from ucm.api.keys import KeyBackend, KeyPurpose, KeyRef, KeySpec
from ucm.api.lint import Lint, LintFinding, Severity
from ucm.api.views import CaView
from ucm.api.web import public, requires
from ucm.runtime.boot import BootError
from ucm.testing.builders import a_ca, a_request
from ucm.testing.fakes import MemoryKeyBackend
from ucm.testing.hosting import a_manifest, state_of

SYSTEM = Actor.system("test")


class Plugin:
    """Does nothing."""

    def __init__(self, name: str = "probe", **manifest) -> None:
        self.manifest = a_manifest(name, **manifest)


def stored_certificates(container) -> int:
    with container.uow.read() as reader:
        return reader.certificates.counts(container.clock.now()).total


def test_a_fresh_directory_becomes_a_running_installation(ucm_container):
    assert state_of(ucm_container.host, "softkeys").state == "running"
    assert ucm_container.safe_mode_reason() is None
    ca = a_ca().made_in(ucm_container)
    issued = ucm_container.issuance.issue(a_request(ca), actor=SYSTEM)
    assert isinstance(issued, IssuedCertificate)
    assert ucm_container.certificates.get(issued.id).der == issued.der


def test_two_processes_open_one_directory_at_the_same_time(ucm_installation):
    one = ucm_installation.start()
    other = ucm_installation.start()
    a_ca().made_in(one)
    assert len(list(other.cas.all())) == 1


class Refuses(Plugin):
    @hookimpl
    def ucm_start(self, ctx: PluginContext) -> None:
        raise RuntimeError("no token")


def test_a_broken_plugin_is_contained_and_recorded(ucm_installation):
    container = ucm_installation.start(plugins={"broken": Refuses("broken")})
    a_ca().made_in(container)
    assert state_of(container.host, "softkeys").state == "running"
    with container.uow.read() as reader:
        row = reader.plugins.get("broken")
    assert row is not None
    assert (row.state, row.step, row.reason) == ("failed", "start", "RuntimeError: no token")


def test_strict_stops_the_start(ucm_installation):
    container = ucm_installation.build(plugins={"broken": Refuses("broken")}, strict=True)
    with pytest.raises(RuntimeError, match="no token"):
        container.start(role="web")


def test_a_guard_that_does_not_start_makes_issuance_unavailable(ucm_installation):
    working = ucm_installation.start()
    ca = a_ca().made_in(working)
    guard = Refuses("guard", guards=frozenset({Operation.ISSUE}))
    container = ucm_installation.start(plugins={"guard": guard})
    before = stored_certificates(container)
    with pytest.raises(PluginUnavailable, match="'guard'"):
        container.issuance.issue(a_request(ca), actor=SYSTEM)
    assert stored_certificates(container) == before


class Denies(Plugin):
    def __init__(self, answer: object) -> None:
        super().__init__("denies")
        self._answer = answer
        self.armed = False

    @hookimpl
    def ucm_before_issue(
        self, request: IssuanceRequest, actor: Actor, ca: CaView | None
    ) -> Iterable[Denial | Hold] | None:
        if isinstance(self._answer, Exception) and self.armed:
            raise self._answer
        return self._answer if self.armed else None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([Denial("not-today", "Nothing today.")], PolicyDenied),
        (RuntimeError("broken"), PluginUnavailable),
        ("denied", PluginUnavailable),
    ],
)
def test_a_guard_stops_issuance_before_anything_is_signed(ucm_installation, answer, expected):
    backend = MemoryKeyBackend()
    denies = Denies(answer)
    container = ucm_installation.start(plugins={"denies": denies, "keys": KeysOf(backend)})
    ca = a_ca().with_key(KeySpec.EC_P256, backend="memory").made_in(container)
    denies.armed = True
    signed, stored = backend.signatures, stored_certificates(container)
    with pytest.raises(expected):
        container.issuance.issue(a_request(ca), actor=SYSTEM)
    assert (backend.signatures, stored_certificates(container)) == (signed, stored)


class KeysOf(Plugin):
    def __init__(self, backend: KeyBackend) -> None:
        super().__init__("keys")
        self._backend = backend

    @hookimpl
    def ucm_key_backends(self, ctx: PluginContext) -> Iterable[KeyBackend] | None:
        return [self._backend]


@pytest.mark.parametrize("local", [True, False])
def test_a_plugins_key_backend_signs_certificates(ucm_installation, local):
    backend = MemoryKeyBackend(local=local)
    container = ucm_installation.start(plugins={"keys": KeysOf(backend)})
    ca = a_ca().with_key(KeySpec.EC_P384, backend="memory").made_in(container)
    container.issuance.issue(a_request(ca), actor=SYSTEM)
    assert backend.signatures == 2  # the root's own certificate, and the one it issued


def test_a_key_whose_backend_is_gone_is_unavailable(ucm_installation):
    backend = MemoryKeyBackend()
    ca = (
        a_ca()
        .with_key(KeySpec.EC_P256, backend="memory")
        .made_in(ucm_installation.start(plugins={"keys": KeysOf(backend)}))
    )
    without = ucm_installation.start()
    with pytest.raises(KeyUnavailable, match="'memory'"):
        without.issuance.issue(a_request(ca), actor=SYSTEM)


class Lints(Plugin):
    def __init__(self, check) -> None:
        super().__init__("lints")
        self._check = check

    @hookimpl
    def ucm_lints(self, ctx: PluginContext) -> Iterable[Lint] | None:
        return [Lint("lints_test", "TEST", self._check)]


def test_a_plugins_lint_stops_issuance(ucm_installation):
    def never(certificate, draft):
        if not draft.is_ca:
            yield LintFinding("lints_test", Severity.ERROR, "never", "TEST")

    container = ucm_installation.start(plugins={"lints": Lints(never)})
    ca = a_ca().made_in(container)
    with pytest.raises(LintFailed, match="lints_test: never"):
        container.issuance.issue(a_request(ca), actor=SYSTEM)


def test_a_lint_that_breaks_stops_issuance_and_is_counted(ucm_installation):
    def breaks(certificate, draft):
        if not draft.is_ca:
            raise RuntimeError("lint bug")
        return ()

    container = ucm_installation.start(plugins={"lints": Lints(breaks)})
    ca = a_ca().made_in(container)
    with pytest.raises(PluginUnavailable, match="lints_test"):
        container.issuance.issue(a_request(ca), actor=SYSTEM)
    assert state_of(container.host, "lints").state == "degraded"


class Observes(Plugin):
    def __init__(self) -> None:
        super().__init__("observes")
        self.told: list[Event] = []

    @hookimpl
    def ucm_after_issue(self, event: CertificateIssued) -> None:
        self.told.append(event)

    @hookimpl
    def ucm_on_event(self, event: Event) -> None:
        raise RuntimeError("observer bug")


def test_an_observer_that_breaks_does_not_undo_what_it_observes(ucm_installation):
    observes = Observes()
    container = ucm_installation.start(plugins={"observes": observes})
    ca = a_ca().made_in(container)
    issued = container.issuance.issue(a_request(ca), actor=SYSTEM)
    assert [event.certificate_id for event in observes.told][-1] == issued.id
    assert state_of(container.host, "observes").state == "degraded"


class Uses(Plugin):
    """Keeps its context."""

    @hookimpl
    def ucm_start(self, ctx: PluginContext) -> None:
        self.ctx = ctx


def test_a_plugin_cannot_open_a_ca_key(ucm_installation):
    uses = Uses()
    container = ucm_installation.start(plugins={"probe": uses})
    ca = a_ca().made_in(container)
    assert ca.key is not None
    with pytest.raises(Forbidden), uses.ctx.keys.open(ca.key):
        pass
    with pytest.raises(NotFound), uses.ctx.keys.open(KeyRef(ca.key.id, KeyPurpose.TSA)):
        pass  # a reference that lies about the purpose


def test_a_plugin_cannot_unseal_what_others_sealed(ucm_installation):
    uses, other = Uses(), Uses("other")
    container = ucm_installation.start(plugins={"probe": uses, "other": other})
    ca = a_ca().made_in(container)
    sealed_ca_key = container.keys.record(ca.key).sealed
    for text in (sealed_ca_key, container.sealer.seal(b"core"), other.ctx.sealer.seal(b"other")):
        with pytest.raises(Forbidden, match="not sealed by the plugin 'probe'"):
            uses.ctx.sealer.unseal(text)
    assert uses.ctx.sealer.unseal(uses.ctx.sealer.seal(b"own")) == b"own"


def test_a_plugin_uses_its_own_keys(ucm_installation):
    uses = Uses()
    ucm_installation.start(plugins={"probe": uses})
    ctx = uses.ctx
    with ctx.uow.begin(SYSTEM) as tx:
        ref = ctx.keys.generate(KeySpec.ED25519, purpose=KeyPurpose.TSA, label="tsa", tx=tx)
    with ctx.keys.open(ref) as key:
        assert key.public_key() is not None


def test_a_context_shows_no_secret(ucm_installation):
    uses = Uses()
    container = ucm_installation.start(plugins={"probe": uses})
    text = repr(uses.ctx) + repr(container)
    assert container.master_key.usable_keys().newest.reveal() not in text


def test_an_undeclared_audit_action_is_refused(ucm_installation):
    uses = Uses()
    ucm_installation.start(plugins={"probe": uses})
    from ucm.api import Target

    with pytest.raises(LookupError), uses.ctx.uow.begin(SYSTEM) as tx:
        tx.audit("probe_undeclared", target=Target("probe"))


class Numbers(PluginSettings):
    size: int = Field(5, ge=1, le=10, description="A size.")
    pin: Secret = Field(Secret(""), description="A PIN.")
    names: tuple[str, ...] = Field((), description="Names.")


class WithSettings(Uses):
    @hookimpl
    def ucm_settings(self) -> type[PluginSettings] | None:
        return Numbers


def test_a_plugin_reads_its_settings_as_one_snapshot(ucm_installation):
    plugin = WithSettings()
    container = ucm_installation.start(plugins={"probe": plugin})
    container.settings.update("probe", {"size": 7, "pin": "1234"}, actor=SYSTEM)
    current = plugin.ctx.settings()
    assert current.size == 7
    assert current.pin.get_secret_value() == "1234"
    assert "1234" not in repr(current)


def test_a_wrong_database_value_fails_its_plugin_only(ucm_installation):
    first = ucm_installation.start(plugins={"probe": WithSettings()})
    with first.uow.begin(SYSTEM) as tx:
        tx.settings.set("probe.size", value="huge")
    container = ucm_installation.start(plugins={"probe": WithSettings()})
    state = state_of(container.host)
    assert (state.state, state.step) == ("failed", "settings")
    assert "probe.size" in state.reason
    assert state_of(container.host, "softkeys").state == "running"


def test_a_wrong_environment_value_stops_the_start(ucm_installation):
    with pytest.raises(BootError, match=r"probe\.size: .*less than or equal to 10"):
        ucm_installation.start(plugins={"probe": WithSettings()}, environ={"UCM_PROBE__SIZE": "11"})


def test_an_unknown_field_in_the_environment_names_the_nearest(ucm_installation):
    with pytest.raises(BootError, match="Did you mean 'size'"):
        ucm_installation.start(plugins={"probe": WithSettings()}, environ={"UCM_PROBE__SIZ": "1"})


def test_an_unknown_owner_in_the_environment_names_the_nearest(ucm_installation):
    with pytest.raises(BootError, match=r"no plugin 'probes'.*Did you mean 'probe'"):
        ucm_installation.start(plugins={"probe": WithSettings()}, environ={"UCM_PROBES__SIZE": "1"})


def test_without_the_master_key_plugins_see_safe_mode(ucm_installation):
    first = ucm_installation.start()
    ca = a_ca().made_in(first)
    first.close()
    (ucm_installation.data_dir / "master.key").unlink()
    uses = Uses()
    container = ucm_installation.start(plugins={"probe": uses})
    assert container.safe_mode_reason() is not None
    assert state_of(container.host).state == "running"
    with pytest.raises(SafeMode):
        uses.ctx.sealer.seal(b"secret")
    with pytest.raises(SafeMode):
        container.issuance.issue(a_request(ca), actor=SYSTEM)
    assert not (ucm_installation.data_dir / "master.key").exists()


class Serves(Plugin):
    @hookimpl
    def ucm_routes(self, ctx: PluginContext) -> Iterable[Routes] | None:
        blueprint = Blueprint("probe", __name__)

        @blueprint.get("/hello")
        @public("greets everybody")
        def hello() -> str:
            return "hello"

        @blueprint.get("/private")
        @requires("read:certificates")
        def private() -> str:
            return "private"

        @blueprint.get("/broken")
        @public("breaks for everybody")
        def broken() -> str:
            raise RuntimeError("password 1234")

        return [Routes(blueprint=blueprint, prefix="/probe")]


@pytest.fixture
def served(ucm_installation):
    from ucm.testing.app import make_app

    container = ucm_installation.start(plugins={"probe": Serves()})
    return container, make_app(container)


def test_a_plugins_routes_are_served_under_their_access_marks(served):
    from ucm.testing.app import api_client

    container, app = served
    client = app.test_client()
    assert client.get("/probe/hello").text == "hello"
    assert client.get("/probe/private").status_code == 401
    assert api_client(app, container, role="viewer").get("/probe/private").text == "private"


def test_an_error_in_a_plugins_view_is_a_problem_and_counted(served, caplog):
    container, app = served
    answer = app.test_client().get("/probe/broken")
    assert answer.status_code == 500
    assert answer.content_type == "application/problem+json"
    assert "1234" not in answer.text
    state = state_of(container.host)
    assert (state.state, state.faults) == ("degraded", {"request": 1})
    assert app.test_client().get("/probe/hello").status_code == 200


def test_the_cores_routes_live_where_plugins_may_not(ucm_app):
    from ucm.runtime.routes import CORE_PREFIXES, within

    outside = {
        rule.rule
        for rule in ucm_app.url_map.iter_rules()
        if not any(within(rule.rule.rstrip("/"), prefix) for prefix in CORE_PREFIXES)
    }
    assert outside <= {"/"}


def test_over_http_a_guard_that_is_down_is_503_and_shown(ucm_installation):
    from ucm.testing.app import api_client, make_app
    from ucm.testing.builders import a_csr

    ca = a_ca().made_in(ucm_installation.start())
    guard = Refuses("guard", guards=frozenset({Operation.ISSUE}))
    container = ucm_installation.start(plugins={"guard": guard})
    client = api_client(make_app(container), container)
    before = stored_certificates(container)
    answer = client.post("/api/v2/certificates", {"ca_id": ca.id, "csr": a_csr().pem()})
    assert answer.status_code == 503, answer.text
    assert answer.json["type"] == "urn:ucm:error:plugin-unavailable"
    assert stored_certificates(container) == before
    shown = {state["name"]: state for state in client.get("/api/v2/plugins").json["data"]}
    assert (shown["guard"]["state"], shown["guard"]["step"]) == ("failed", "start")
    assert shown["guard"]["reason"] == "RuntimeError: no token"
    assert shown["softkeys"]["state"] == "running"


def test_over_http_a_denial_names_who_may_change_it(ucm_installation):
    from ucm.testing.app import api_client, make_app
    from ucm.testing.builders import a_csr

    denies = Denies([Denial("not-today", "Nothing today.", "Come tomorrow.", "/csr")])
    container = ucm_installation.start(plugins={"denies": denies})
    ca = a_ca().made_in(container)
    denies.armed = True
    client = api_client(make_app(container), container)
    answer = client.post("/api/v2/certificates", {"ca_id": ca.id, "csr": a_csr().pem()})
    assert answer.status_code == 400
    assert answer.json["type"] == "urn:ucm:error:policy-denied"
    assert answer.json["errors"] == [
        {"pointer": "/csr", "code": "not-today", "detail": "Nothing today."}
    ]
    assert answer.json["hint"] == "Come tomorrow."


@pytest.mark.parametrize("kind", [Blueprint, APIBlueprint])
def test_a_blueprint_may_be_called_as_one_of_the_core(ucm_installation, kind):
    from ucm.testing.app import make_app

    class Named(Plugin):
        @hookimpl
        def ucm_routes(self, ctx: PluginContext) -> Iterable[Routes] | None:
            blueprint = kind("users", __name__)

            @blueprint.get("/hello")
            @public("greets everybody")
            def hello() -> str:
                return "hello"

            return [Routes(blueprint=blueprint, prefix="/probe")]

    container = ucm_installation.start(plugins={"probe": Named()})
    client = make_app(container).test_client()
    assert client.get("/probe/hello").text == "hello"
    assert client.get("/api/v2/users").status_code == 401


def test_a_plugin_asks_others_through_hooks_of_its_own(ucm_installation):
    offered = ModuleType("offered")

    def ucm_probe_flavours(sweet: bool) -> str | None: ...

    offered.ucm_probe_flavours = hookspec(ucm_probe_flavours)

    class Shop(Uses):
        @hookimpl
        def ucm_hookspecs(self) -> Iterable[ModuleType] | None:
            return [offered]

    class Guest(Plugin):
        @hookimpl
        def ucm_probe_flavours(self, sweet: bool) -> str | None:
            return "vanilla" if sweet else "lemon"

    shop = Shop()
    ucm_installation.start(plugins={"probe": shop, "guest": Guest("guest", requires=("probe",))})
    assert shop.ctx.ask_others("ucm_probe_flavours", sweet=False) == (("guest", "lemon"),)
    with pytest.raises(LookupError, match="offers no hook 'ucm_before_issue'"):
        shop.ctx.ask_others("ucm_before_issue", request=None)
