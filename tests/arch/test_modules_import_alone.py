"""Every module can be the first of its package to be imported, without a warning.

A module that only imports after a certain sibling works by luck. Between packages the layers rule
that out, so each package is tried with those below it already loaded: many times quicker.
"""

import json
import subprocess
import sys
import tomllib

import pytest

# Third-party packages are imported once in the parent (with warnings as errors, too). Each module
# is then imported in a forked child of its own, which sees nothing that a sibling of it imported.
_DRIVER = """
import importlib, json, os, sys, traceback
preload, packages = json.load(sys.stdin)
for name in preload:
    importlib.import_module(name)
failed = {}
for modules, stays in packages:
    for name in modules:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                importlib.import_module(name)
            except BaseException:
                os.write(writer, traceback.format_exc(limit=-2)[-2000:].encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            complaint = stream.read().decode()
        _, status = os.waitpid(child, 0)
        if complaint or status:
            failed[name] = complaint or f"exit status {status}"
    for name in modules if stays else ():
        if name not in failed:
            importlib.import_module(name)
json.dump(failed, sys.stdout)
"""
_THIRD_PARTY = [
    "alembic.command",
    "apscheduler.schedulers.background",
    "argon2",
    "asn1crypto.cms",
    "click",
    "cryptography.hazmat.primitives.serialization.pkcs12",
    "cryptography.x509",
    "flask",
    "flask_openapi3",
    "pluggy",
    "prometheus_client",
    "psycopg",
    "pydantic_settings",
    "sqlalchemy.orm",
    "uvicorn",
]


def _module(path):
    parts = path.removesuffix(".py").split("/")
    if parts[0] == "plugins":
        parts = parts[2:]
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def _packages(production, sources, root):
    """Return (modules, whether they stay loaded for the next) per package, lowest layer first."""
    kit = [source for source in sources if source.path.startswith("ucm/testing/")]
    modules = sorted(
        _module(source.path)
        for source in [*production, *kit]
        # Alembic runs its scripts inside a migration context; __main__ runs when imported.
        if "/migrations/" not in source.path and not source.path.endswith("__main__.py")
    )
    contracts = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    layers = next(c["layers"] for c in contracts["contracts"] if c["id"] == "layers")
    packages = []
    for layer in reversed(layers):
        names = [f"ucm.{name.strip(' ()')}" for name in layer.split(":")]
        packages.append(([m for m in modules if ".".join(m.split(".")[:2]) in names], True))
        if names == ["ucm.api"]:
            packages.append(
                ([m for m in modules if not m.startswith("ucm.") and m != "ucm"], False)
            )
    assert sum(len(names) for names, _ in packages) == len(modules) - 1  # all but ucm itself
    return packages


def _import_alone(packages, *, preload=()):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", _DRIVER],
        input=json.dumps([list(preload), packages]),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_every_module_imports_alone(production, sources, root):
    failed = _import_alone(_packages(production, sources, root), preload=_THIRD_PARTY)
    assert not failed, "\n\n".join(f"{name}:\n{why}" for name, why in failed.items())


def test_a_module_that_does_not_import_is_reported():
    failed = _import_alone([(["ucm.no_such_module", "ucm.api"], True)])
    assert "ModuleNotFoundError" in failed["ucm.no_such_module"]
    assert "ucm.api" not in failed


@pytest.mark.parametrize("name", ["ucm.testing.pytest_plugin"])
def test_the_pytest_plugin_loads_nothing_of_the_core(name):
    """It is loaded in every test run of an environment that has ucm, before coverage starts."""
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {name}; print(*sorted(sys.modules))"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()
    ours = {module for module in loaded if module.split(".")[0] == "ucm"}
    assert ours == {"ucm", "ucm.testing", name}
