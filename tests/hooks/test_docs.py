"""docs/hooks.md says what the code does, and every hook has its tests."""

import inspect
import re
from pathlib import Path

import pytest

from ucm.api import hooks
from ucm.runtime.dispatch import GUARD_HOOKS, OBSERVE_HOOKS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "hooks.md").read_text()
SPECS = {name: value for name, value in vars(hooks).items() if name.startswith("ucm_")}
HEADING = re.compile(r"^### `((ucm_\w+).*)`$", re.MULTILINE)


def signature(name: str) -> str:
    text = str(inspect.signature(SPECS[name])).replace("'", "")
    return f"{name}{text}"


def test_every_hook_has_its_heading_with_the_arguments_of_the_code():
    documented = {match[2]: match[1] for match in HEADING.finditer(PAGE)}
    assert documented == {name: signature(name) for name in SPECS}


def test_no_hook_is_documented_twice():
    names = [match[2] for match in HEADING.finditer(PAGE)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_hook_is_in_the_section_of_its_kind(name):
    before = PAGE[: PAGE.index(f"### `{name}(")]
    section = re.findall(r"^## (.+)$", before, re.MULTILINE)[-1]
    if name in GUARD_HOOKS:
        assert section == "Guard"
    elif name in OBSERVE_HOOKS:
        assert section == "Observe"
    elif name in ("ucm_start", "ucm_stop", "ucm_before_purge"):
        assert section == "Life cycle"
    elif "ctx" in inspect.signature(SPECS[name]).parameters:
        assert section == "Collect, with the context"
    else:
        assert section == "Collect, without a context"


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_hook_has_a_description(name):
    assert SPECS[name].__doc__
    after = PAGE[PAGE.index(f"### `{name}(") :].partition("\n")[2]
    assert re.match(r"[A-Z`\"].{20,}", after)


def test_the_table_of_operations_is_the_codes():
    rows = re.findall(r"^\| (`ucm_.*?) \| `Operation\.(\w+)` \|$", PAGE, re.MULTILINE)
    shown = {hook: operation for hooks, operation in rows for hook in re.findall(r"ucm_\w+", hooks)}
    assert shown == {hook: operation.name for hook, operation in GUARD_HOOKS.items()}


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_hook_has_a_test_of_its_name(name):
    here = Path(__file__)
    text = "".join(
        path.read_text() for path in here.parent.glob("test_*.py") if path.name != here.name
    )
    assert re.search(rf"def test_{name}\w*\(", text), f"no test_{name} in tests/hooks"
