"""Entry points without imports; the allow-list; what the source of a broken plugin still says."""

import sys
from importlib.metadata import EntryPoint

import pytest

from ucm.api.issuance import Operation
from ucm.runtime.boot import BootError
from ucm.runtime.discovery import (
    GROUP,
    Candidate,
    Wanted,
    by_name,
    declared,
    discover,
    missing_extra,
    select,
)


class _Distribution:
    def __init__(self, name: str) -> None:
        self.name = name
        self.version = "1.0"


def point(name: str, value: str, distribution: str) -> EntryPoint:
    found = EntryPoint(name, value, GROUP)
    vars(found)["dist"] = _Distribution(distribution)
    return found


def test_discovery_imports_nothing():
    found = discover([point("acme", "no_such_package:plugin", "ucm-acme")])
    assert [(c.name, c.distribution, c.module) for c in found] == [
        ("acme", "ucm-acme", "no_such_package")
    ]
    assert "no_such_package" not in sys.modules


def test_the_built_in_plugin_is_found():
    assert by_name(discover())["softkeys"].distribution == "ucm"


def test_of_two_plugins_with_one_name_ucms_own_wins_and_the_other_is_shown():
    found = discover(
        [point("acme", "other:plugin", "aaa"), point("acme", "ucm_acme:plugin", "ucm")]
    )
    kept, shadowed = found
    assert kept.distribution == "ucm"
    assert shadowed.distribution == "aaa"
    assert shadowed.shadowed_by == "ucm"
    assert by_name(found) == {"acme": kept}


def test_one_distribution_seen_twice_on_the_path_is_no_clash():
    found = discover([point("acme", "a:plugin", "ucm"), point("acme", "a:plugin", "ucm")])
    assert len(found) == 1


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("default", [Wanted("softkeys")]),
        ("", []),
        ("default,acme", [Wanted("softkeys"), Wanted("acme")]),
        (" default , -softkeys, hsm! ", [Wanted("hsm", required=True)]),
        ("acme,default,acme!", [Wanted("acme", required=True), Wanted("softkeys")]),
    ],
)
def test_selection(text, chosen):
    assert select(text, installed=["softkeys", "acme", "hsm"]) == chosen


@pytest.mark.parametrize("text", ["acne", "-acne", "acne!"])
def test_an_unknown_plugin_fails_with_the_nearest_name(text):
    with pytest.raises(BootError, match=r"no plugin 'acne' is installed.*Did you mean 'acme'"):
        select(text, installed=["softkeys", "acme"])


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str, *, name: str = "ucm_sourced") -> str:
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text(text)
        return name

    return write


def test_guards_and_extra_are_read_without_running_the_source(source):
    module = source(
        "import absent_package\n"
        "MANIFEST = PluginManifest(name='x', extra='hsm',\n"
        "    guards=frozenset({Operation.ISSUE, issuance.Operation.REVOKE}))\n"
    )
    found = declared(module)
    assert found.guards == {Operation.ISSUE, Operation.REVOKE}
    assert found.extra == "hsm"


def test_guards_are_read_from_source_that_does_not_parse(source):
    module = source("m = PluginManifest(guards=frozenset({Operation.ISSUE}))\nif :\n")
    assert declared(module).guards == {Operation.ISSUE}


def test_guards_that_cannot_be_read_stand_for_everything(source):
    assert declared(source("m = PluginManifest(guards=GUARDS)")).guards == set(Operation)


def test_a_manifest_made_from_a_mapping_may_hide_any_guard(source):
    assert declared(source("m = PluginManifest(**FIELDS)")).guards == set(Operation)


def test_no_guards_are_no_guards(source):
    assert declared(source("m = PluginManifest(name='x')")).guards == set()


def test_an_absent_package_has_no_source():
    assert declared("no_such_package").guards == set()


def _candidate(module: str = "ucm_x", distribution: str = "ucm") -> Candidate:
    return Candidate(
        name="x", distribution=distribution, version="1", module=module, load=lambda: None
    )


def test_a_missing_module_of_the_extra_names_the_command():
    error = ModuleNotFoundError("No module named 'pkcs11'", name="pkcs11")
    command = missing_extra(error, candidate=_candidate(), extra="hsm")
    assert command == "pip install 'ucm[hsm]'"


@pytest.mark.parametrize(
    ("error", "extra"),
    [
        (ModuleNotFoundError("No module named 'ucm_x.gone'", name="ucm_x.gone"), "hsm"),
        (ModuleNotFoundError("No module named 'ucm.gone'", name="ucm.gone"), "hsm"),
        (ModuleNotFoundError("No module named 'pkcs11'", name="pkcs11"), None),
        (ImportError("cannot import name"), "hsm"),
        (ModuleNotFoundError("No module named 'other'", name="other"), "postgresql"),
    ],
    ids=["own module", "core module", "no extra", "other error", "extra is installed"],
)
def test_a_broken_plugin_is_not_taken_for_a_missing_extra(error, extra):
    assert missing_extra(error, candidate=_candidate(), extra=extra) is None
