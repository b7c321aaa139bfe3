"""Denied names and keys in files, through the API and the pipeline."""

from datetime import timedelta

import pytest
from ucm_demo.names import covers
from ucm_demo.plugin import DemoPlugin

from ucm.api import Actor
from ucm.api.errors import Invalid, KeyUnavailable, LintFailed, PolicyDenied
from ucm.api.keys import KeySpec
from ucm.testing.app import api_client, audited, emitted, make_app, rotate_master_key, run_job
from ucm.testing.builders import a_ca, a_csr, a_request

SYSTEM = Actor.system("test")
NAMES = "/api/v2/demo/denied-names"


@pytest.fixture
def keys(tmp_path):
    directory = tmp_path / "keys"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def container(ucm_installation, keys):
    return ucm_installation.start(
        plugins={"demo": DemoPlugin()}, environ={"UCM_DEMO__KEY_DIRECTORY": str(keys)}
    )


@pytest.fixture
def app(container):
    return make_app(container)


@pytest.fixture
def admin(app, container):
    return api_client(app, container)


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("example.org", True),
        ("www.example.org", True),
        ("*.example.org", True),
        ("*.a.EXAMPLE.org", True),
        ("notexample.org", False),
        ("example.org.test", False),
    ],
)
def test_a_domain_covers_itself_and_what_is_below(name, covered):
    assert covers("example.org", name=name) is covered


def deny(admin, domain="example.org", **more):
    return admin.post(NAMES, {"domain": domain, "reason": "It is not ours.", **more})


def test_a_denied_name_is_not_certified_by_any_way(container, admin):
    ca = a_ca().made_in(container)
    assert deny(admin).status_code == 201
    for origin in ("api", "cli", "some-protocol"):
        request = a_request(ca, a_csr("www.example.org"), origin=origin)
        with pytest.raises(PolicyDenied) as caught:
            container.issuance.issue(request, actor=SYSTEM)
        assert caught.value.denials[0].code == "demo-denied-name"
    assert container.issuance.issue(a_request(ca, a_csr("www.example.com")), actor=SYSTEM)


def test_a_denied_name_is_not_certified_as_a_common_name_either(container, admin):
    ca = a_ca().made_in(container)
    deny(admin)
    body = {"ca_id": ca.id, "cn": "www.example.org", "key_type": "EC-P256"}
    refused = admin.post("/api/v2/certificates", body)
    assert refused.status_code == 400
    assert "It is not ours." in refused.json["detail"]


def test_an_expired_entry_denies_nothing_and_the_job_removes_it(container, admin):
    ca = a_ca().made_in(container)
    soon = container.clock.now() + timedelta(days=1)
    deny(admin, expires_at=soon.isoformat())
    container.clock.advance(timedelta(days=2))
    assert container.issuance.issue(a_request(ca), actor=SYSTEM)
    container.clock.advance(timedelta(days=40))
    run_job(container, "demo.expire")
    assert admin.get(NAMES).json["data"] == []


def test_the_list_is_kept_through_the_api(admin):
    made = deny(admin, "Example.ORG").json["data"]
    assert made["domain"] == "example.org"
    assert [entry["id"] for entry in admin.get(NAMES).json["data"]] == [made["id"]]
    assert deny(admin).status_code == 409
    assert admin.delete(f"{NAMES}/{made['id']}").status_code == 200
    assert admin.delete(f"{NAMES}/{made['id']}").status_code == 404


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"domain": "", "reason": "x"}, "/domain"),
        ({"domain": "example.org"}, "/reason"),
        ({"domain": 7, "reason": "x"}, "/domain"),
        ({"domain": "example.org", "reason": "x", "extra": 1}, "/extra"),
        ({"domain": "not a name", "reason": "x"}, "/domain"),
        ({"domain": "example.org", "reason": "x", "expires_at": "soon"}, "/expires_at"),
    ],
)
def test_a_wrong_body_names_the_field_and_stores_nothing(admin, body, pointer):
    answer = admin.post(NAMES, body)
    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == pointer
    assert admin.get(NAMES).json["data"] == []


@pytest.mark.parametrize(
    ("role", "statuses"),
    [("operator", (200, 201, 403)), ("auditor", (200, 403, 403)), ("viewer", (403, 403, 403))],
)
def test_roles_hold_what_the_plugin_gave_them(app, container, role, statuses):
    client = api_client(app, container, role=role)
    answers = (client.get(NAMES), deny(client), client.delete(f"{NAMES}/1"))
    assert tuple(answer.status_code for answer in answers) == statuses


def test_changes_are_audited_and_told_to_others(container, admin):
    deny(admin)
    assert [row.resource_name for row in audited(container, "demo_name_denied")] == ["example.org"]
    assert "demo.name_denied" in emitted(container)


def test_an_authority_signs_with_a_key_in_a_file(container, keys):
    ca = a_ca().with_key(KeySpec.EC_P256, backend="demo-files").made_in(container)
    [file] = keys.iterdir()
    assert b"PRIVATE" not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600
    assert container.issuance.issue(a_request(ca), actor=SYSTEM)
    file.rename(file.with_suffix(".away"))
    with pytest.raises(KeyUnavailable):
        container.issuance.issue(a_request(ca, a_csr("b.test")), actor=SYSTEM)


def test_keys_in_files_survive_a_rotation_of_the_master_key(container):
    ca = a_ca().with_key(KeySpec.EC_P256, backend="demo-files").made_in(container)
    before = container.master_key.state().fingerprint
    rotate_master_key(container)
    after = container.master_key.state()
    assert after.fingerprint != before
    assert after.older_fingerprints == ()
    assert container.issuance.issue(a_request(ca), actor=SYSTEM)


def test_a_file_that_was_exchanged_is_refused(container, keys):
    first = a_ca("One").with_key(KeySpec.EC_P256, backend="demo-files").made_in(container)
    [file] = keys.iterdir()
    a_ca("Two").with_key(KeySpec.EC_P256, backend="demo-files").made_in(container)
    [other] = [path for path in keys.iterdir() if path != file]
    file.write_bytes(other.read_bytes())
    with pytest.raises(Invalid, match="another key's"):
        container.issuance.issue(a_request(first), actor=SYSTEM)


def test_without_a_directory_the_backend_says_what_to_do(ucm_installation):
    container = ucm_installation.start(plugins={"demo": DemoPlugin()})
    with pytest.raises(KeyUnavailable) as caught:
        a_ca().with_key(KeySpec.EC_P256, backend="demo-files").made_in(container)
    assert "demo.key_directory" in (caught.value.hint or "")


def test_the_plugins_data_stays_while_a_key_lives_in_it(container):
    from ucm.api.errors import Conflict

    a_ca().with_key(KeySpec.EC_P256, backend="demo-files").made_in(container)
    with pytest.raises(Conflict, match="keys live in its key backend 'demo-files'"):
        container.purge("demo", actor=SYSTEM)


def test_a_wildcard_for_a_top_level_domain_does_not_pass_the_lint(container):
    ca = a_ca().made_in(container)
    with pytest.raises((LintFailed, PolicyDenied)) as caught:
        container.issuance.issue(a_request(ca, a_csr("*.test")), actor=SYSTEM)
    assert "test" in str(caught.value)


def test_health_and_metrics(container, admin):
    deny(admin)
    [check] = container.host.health_checks
    assert (check.name, check.check().ok) == ("demo.key-directory", True)
    [metric] = container.host.metrics
    assert metric.read() == {(): 1.0}
