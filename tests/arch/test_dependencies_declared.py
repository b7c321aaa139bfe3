"""What the core imports is installed with the core: `make run` installs nothing else."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Drivers that an extra brings, imported only where the operator chose them.
OPTIONAL = {"psycopg": "postgresql"}


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]


def _names(requirements):
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def _imported(source):
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_every_import_of_the_core_is_a_dependency(production, project):
    """Named directly, not left to whichever dependency happens to bring it today."""
    declared = _names(project["dependencies"])
    ours = {source.path.split("/")[2] for source in production if "plugins/" in source.path}
    distributions = packages_distributions()
    missing = {}
    for source in production:
        for package in _imported(source):
            if package in sys.stdlib_module_names or package in {"ucm", "_typeshed", *ours}:
                continue
            if package in OPTIONAL:
                assert OPTIONAL[package] in project["optional-dependencies"]
                continue
            names = {canonicalize_name(name) for name in distributions.get(package, [package])}
            if names.isdisjoint(declared):
                missing.setdefault(package, []).append(source.path)
    assert not missing, f"imported by the core, not among its dependencies: {missing}"


def test_every_dependency_is_imported_or_has_its_reason(production, project):
    """A dependency that nothing uses is attack surface and start-up time for nothing."""
    loaded_by_name = {
        "gunicorn",  # runs the server
        "httptools",  # uvicorn's HTTP parser
        "uvicorn",
        "uvloop",  # uvicorn's event loop
    }
    distributions = packages_distributions()
    used = {
        canonicalize_name(name)
        for source in production
        for package in _imported(source)
        for name in distributions.get(package, [])
    }
    unused = _names(project["dependencies"]) - used - loaded_by_name
    assert not unused, f"among the dependencies, but nothing imports them: {sorted(unused)}"
