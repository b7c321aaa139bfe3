"""The running application keeps to the document it serves, whatever it is asked."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as openapi_checks

EXAMPLES = 5
"""Inputs per operation and kind: a net; the limits of each field have tests of their own."""
DOCUMENT = "/api/docs/openapi.json"
CHECKS = [
    schemathesis.checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.negative_data_rejection,
]
BOUNDED = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
FEWEST_OPERATIONS = 100


@pytest.fixture(scope="module")
def key(shared):
    """An administrator's key, behind other people's: generated ids are small."""
    for owner in ("operator", "auditor"):
        for _ in range(10):
            shared.with_key(owner, "read:cas")
    return shared.with_key("admin").headers["X-API-Key"]


@pytest.fixture(scope="module")
def schema(shared, key):
    """The schema of an installation that has an authority and a certificate, so that ids exist."""
    api = shared.api(**{"X-API-Key": key})
    ca = api.post("/api/v2/cas", {"common_name": "Root", "key_type": "EC-P256"})
    assert ca.status_code == 201, ca.json
    body = {"ca_id": ca.json["data"]["id"], "cn": "www.example.org", "key_type": "EC-P256"}
    certificate = api.post("/api/v2/certificates", body)
    assert certificate.status_code == 201, certificate.json
    return schemathesis.openapi.from_wsgi(DOCUMENT, shared.app)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_operation_answers_as_documented(schema, key, mode):
    tried, failures = 0, []
    for result in schema.get_all_operations():
        operation = result.ok()
        tried += 1
        if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
            continue  # a wrong path parameter is another path
        try:
            exercise(operation, key=key, mode=mode)
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, "nothing valid can be sent"
        except schemathesis.checks.FailureGroup as group:
            failures += [
                f"{operation.method.upper()} {operation.path}: {failure}"
                for failure in group.exceptions
            ]
    assert tried >= FEWEST_OPERATIONS
    assert not failures, "\n\n".join(failures)


def exercise(operation, *, key, mode):
    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case):
        answer = case.call(headers={"X-API-Key": key})
        case.validate_response(answer, checks=CHECKS)

    send()


def test_the_document_says_who_may_call_what(shared):
    document = shared.api().get(DOCUMENT).json
    assert document["openapi"].startswith("3.1")
    create = document["paths"]["/api/v2/users"]["post"]
    assert create["x-permissions"] == ["write:users"]
    assert {"apiKey": []} in create["security"]
    assert {"session": [], "csrf": []} in create["security"]
    assert document["paths"]["/api/v2/auth/verify"]["get"]["security"] == []
    for status in ("400", "401", "403", "409", "503"):
        assert create["responses"][status] == {"$ref": f"#/components/responses/{status}"}
    assert document["components"]["responses"]["400"]["content"].keys() == {
        "application/problem+json"
    }


def test_every_operation_is_described(shared):
    document = shared.api().get(DOCUMENT).json
    seen = set()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation.get("summary"), f"{method} {path}"
            assert operation["operationId"] not in seen
            seen.add(operation["operationId"])
            statuses = [status for status in operation["responses"] if status.startswith("2")]
            assert statuses, f"{method} {path}"


def test_every_api_route_is_in_the_document(shared):
    from ucm.web.app import rules_of

    document = shared.api().get(DOCUMENT).json
    documented = {
        (method.upper(), path.replace("{", "<").replace("}", ">"))
        for path, item in document["paths"].items()
        for method in item
    }
    undocumented = {"/api/v2/health", "/api/v2/metrics"}
    for method, rule, _ in rules_of(shared.app):
        if rule.startswith("/api/v2/") and not any(rule.startswith(one) for one in undocumented):
            plain = rule.replace("<int:", "<").replace("<string:", "<")
            assert (method, plain) in documented, rule


def test_a_key_backend_that_nobody_offers_is_the_callers_mistake(shared, schema, key):
    api = shared.api(**{"X-API-Key": key})
    ca_id = api.get("/api/v2/cas").json["data"][0]["id"]
    body = {"ca_id": ca_id, "cn": "a.example.org", "key_backend": "vapour"}
    answer = api.post("/api/v2/certificates", body)
    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == "/key_backend"
