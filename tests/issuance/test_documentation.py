"""docs/issuance.md names every code and every lint, and none that does not exist."""

import ast
import re
from pathlib import Path

import pytest

from ucm.issuance.lints import CORE_LINTS
from ucm.issuance.policy import ISSUER_EXPIRED, ISSUER_REVOKED

_ROOT = Path(__file__).parents[2]
_SOURCES = [
    *(_ROOT / "ucm/issuance").rglob("*.py"),
    *(_ROOT / "ucm/domain").glob("[vn]a*.py"),
    *(_ROOT / f"ucm/api/{name}.py" for name in ("csr", "names", "x509", "publickeys")),
]
_CODE_AT = {"Denial": 0, "field": 1, "_bad": 0, "_refuse": 1}


@pytest.fixture(scope="module")
def text():
    return (_ROOT / "docs/issuance.md").read_text("utf-8")


def codes_in_the_code():
    # Made by small functions, or named.
    found = {"invalid-san", "invalid-name-constraint", ISSUER_EXPIRED, ISSUER_REVOKED}
    for source in _SOURCES:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", None))
                at = _CODE_AT.get(name)
                if at is not None and len(node.args) > at:
                    argument = node.args[at]
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        found.add(argument.value)
    return found


def test_every_code_is_documented_and_exists(text):
    section = text.split("## Codes")[1].split("## ")[0]
    documented = set(re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)+)`", section)) - {"policy-denied"}
    assert documented == codes_in_the_code()


def test_every_lint_is_documented_and_exists(text):
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", text.split("## Lints of the core")[1], re.M)
    assert dict(rows) == {lint.name: lint.ref for lint in CORE_LINTS} | {"readable": "RFC 5280 4.1"}
