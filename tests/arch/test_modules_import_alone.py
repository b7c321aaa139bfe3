"""Every module imports alone, where nothing else of ucm is loaded, without a warning."""

import json
import subprocess
import sys

import pytest

# Third-party packages are imported once in the parent (with warnings as errors, too); then each
# module is imported in a forked child of its own, which sees nothing that another one imported.
_DRIVER = """
import importlib, json, os, sys, traceback
preload, modules = json.load(sys.stdin)
for name in preload:
    importlib.import_module(name)
assert not [name for name in sys.modules if name.split(".")[0] == "ucm" or name.startswith("ucm_")]
failed = {}
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


def _modules(production, sources):
    kit = [source for source in sources if source.path.startswith("ucm/testing/")]
    return sorted(
        _module(source.path)
        for source in [*production, *kit]
        # Alembic runs its scripts inside a migration context; __main__ runs when imported.
        if "/migrations/" not in source.path and not source.path.endswith("__main__.py")
    )


def _import_alone(modules, *, preload=()):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", _DRIVER],
        input=json.dumps([list(preload), modules]),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_every_module_imports_alone(production, sources):
    modules = _modules(production, sources)
    assert "ucm.api" in modules
    failed = _import_alone(modules, preload=_THIRD_PARTY)
    assert not failed, "\n\n".join(f"{name}:\n{why}" for name, why in failed.items())


def test_a_module_that_does_not_import_is_reported():
    assert "ModuleNotFoundError" in _import_alone(["ucm.no_such_module"])["ucm.no_such_module"]


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
