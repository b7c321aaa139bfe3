"""A plugin in the tree is listed everywhere it must be: installed, discovered, linted, measured."""

import tomllib

import pytest


@pytest.fixture(scope="module")
def pyproject(root):
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def plugins(root):
    """Import package -> path from the root, for every plugin in the tree."""
    found = {
        path.parent.name: path.parent.relative_to(root).as_posix()
        for path in (root / "plugins").glob("*/ucm_*/__init__.py")
    }
    assert found
    return found


def test_each_has_its_entry_point(pyproject, plugins):
    declared = pyproject["project"]["entry-points"]["ucm.plugins"]
    expected = {path.split("/")[1]: f"{package}:plugin" for package, path in plugins.items()}
    assert declared == expected


def test_each_is_in_the_wheel(pyproject, plugins):
    packages = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(packages) == sorted(["ucm", *plugins.values()])


def test_each_is_under_the_import_contracts(pyproject, plugins):
    linter = pyproject["tool"]["importlinter"]
    contracts = {contract["id"]: contract for contract in linter["contracts"]}
    assert sorted(linter["root_packages"]) == sorted(["ucm", *plugins])
    assert sorted(contracts["no-plugin-in-core"]["forbidden_modules"]) == sorted(plugins)
    assert sorted(contracts["plugins-apart"]["modules"]) == sorted(plugins)


def test_each_is_measured_and_type_checked(pyproject, plugins):
    assert sorted(pyproject["tool"]["coverage"]["run"]["source_pkgs"]) == sorted(["ucm", *plugins])
    searched = pyproject["tool"]["mypy"]["mypy_path"].split(":")
    folders = {path.rpartition("/")[0] for path in plugins.values()}
    assert {f"$MYPY_CONFIG_FILE_DIR/{folder}" for folder in folders} <= set(searched)
