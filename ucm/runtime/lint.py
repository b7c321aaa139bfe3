"""``ucm plugins lint``: a plugin's manifest and declarations against what it really does."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from sqlalchemy import inspect

from ucm.api.manifest import PluginManifest
from ucm.runtime.boot import BootError, BootSettings, nearest
from ucm.runtime.container import Container, Substitutes, build_container
from ucm.runtime.discovery import Candidate, by_name, discover
from ucm.runtime.dispatch import GUARD_HOOKS
from ucm.runtime.registry import Plugin
from ucm.store import migrate


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that a plugin breaks."""

    rule: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}"


def lint_plugin(name: str) -> list[Finding]:
    """Findings about an installed plugin; it is loaded over an empty installation, not started.

    Raises ``BootError`` for a name that is not installed.
    """
    candidates = by_name(discover())
    candidate = candidates.get(name)
    if candidate is None:
        raise BootError(
            f"no plugin {name!r} is installed.{nearest(name, known=candidates)}",
            hint="Install its distribution into this environment (pip install -e .).",
        )
    with tempfile.TemporaryDirectory(prefix="ucm-lint-") as directory:
        container = _installation(Path(directory), name)
        try:
            plugin = container.host.registry.get(name)
            if plugin is None or not plugin.alive or plugin.manifest is None:
                step, reason = (plugin.step.value, plugin.reason) if plugin else ("select", "")
                return [Finding(step, reason)]
            return [
                *_manifest(plugin.manifest, plugin=plugin),
                *_guards(plugin.manifest, plugin=plugin),
                *_tables(plugin.manifest, plugin=plugin, container=container),
                *_documents(candidate, plugin=plugin),
                *_imports(candidate, extra=plugin.manifest.extra),
            ]
        finally:
            container.close()


def _installation(directory: Path, name: str) -> Container:
    boot = BootSettings(
        data_dir=directory / "data",
        database_url=f"sqlite:///{directory / 'lint.db'}",  # type: ignore[arg-type]
        master_key_file=directory / "absent",
        plugins=f"default,{name}",
    )
    return build_container(boot, substitutes=Substitutes(environ={}), strict=False)


def _manifest(manifest: PluginManifest, *, plugin: Plugin) -> Iterator[Finding]:
    parts = plugin.contributions
    if not manifest.summary.endswith("."):
        yield Finding("manifest", "summary must be a sentence that ends with a full stop")
    if not manifest.docs:
        yield Finding("manifest", "docs must say where the documentation is")
    used = {entry.prefix for entry in parts.routes} | {r.prefix for r in parts.error_renderers}
    for prefix in manifest.url_prefixes:
        if not any(one == prefix or one.startswith(f"{prefix}/") for one in used):
            yield Finding("manifest", f"url prefix {prefix!r} is claimed and never routed")
    if manifest.permission_namespace and not parts.permissions:
        yield Finding("manifest", "permission_namespace is claimed, but there are no permissions")
    if manifest.extra is not None and not _has_extra(plugin.candidate, manifest.extra):
        yield Finding(
            "manifest",
            f"extra {manifest.extra!r} is not an extra of {plugin.candidate.distribution!r}",
        )


def _has_extra(candidate: Candidate, extra: str) -> bool:
    return extra in _metadata(candidate, "Provides-Extra")


def _metadata(candidate: Candidate, field: str) -> list[str]:
    return importlib.metadata.metadata(candidate.distribution).get_all(field) or []


def _guards(manifest: PluginManifest, *, plugin: Plugin) -> Iterator[Finding]:
    for hook, operation in GUARD_HOOKS.items():
        if hook in plugin.hooks and operation not in manifest.guards:
            yield Finding(
                "guards",
                f"{hook} is implemented, but guards does not name Operation.{operation.name}: when "
                "the plugin fails to start, the operation would go on without it",
            )


def _tables(manifest: PluginManifest, *, plugin: Plugin, container: Container) -> Iterator[Finding]:
    migrations = plugin.contributions.migrations
    engine = container.engine
    tables = set(inspect(engine).get_table_names())
    others = {
        other.manifest.table_prefix
        for other in container.host.registry.alive()
        if other.manifest is not None and other is not plugin
    }
    foreign = (migrate.CORE_PREFIX, *others)
    for table in sorted(tables):
        if not table.startswith((manifest.table_prefix, *foreign)):
            yield Finding(
                "tables", f"table {table!r} does not start with {manifest.table_prefix!r}"
            )
    if migrations is None:
        return
    for difference in migrate.differences(engine, prefix=manifest.table_prefix):
        yield Finding("tables", f"models and migrations differ: {difference}")
    migrate.downgrade_owner(
        engine,
        owner=manifest.name,
        prefix=manifest.table_prefix,
        package=migrations.package,
    )
    left = [t for t in inspect(engine).get_table_names() if t.startswith(manifest.table_prefix)]
    if left:
        yield Finding("tables", f"the downgrade to base leaves {', '.join(left)}")


def _documents(candidate: Candidate, *, plugin: Plugin) -> Iterator[Finding]:
    package = _folder(candidate)
    if package is None:
        return
    places = [package, package.parent, package.parent.parent]
    described = _metadata(candidate, "Description-Content-Type")
    readmes = [place / "README.md" for place in places[:2] if (place / "README.md").is_file()]
    if not readmes and not described:
        yield Finding("documents", "there is no README.md beside the package")
    tests = [place / "tests" for place in places if (place / "tests").is_dir()]
    if plugin.contributions.key_backends and tests:
        text = "".join(path.read_text() for path in tests[0].rglob("*.py"))
        if "KeyBackendContract" not in text:
            yield Finding("tests", "no test runs ucm.testing's KeyBackendContract on the backend")


def _folder(candidate: Candidate) -> Path | None:
    spec = importlib.util.find_spec(candidate.module.partition(".")[0])
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _imports(candidate: Candidate, *, extra: str | None) -> Iterator[Finding]:
    if extra is None:
        return
    wanted = _distributions_of(candidate.distribution, extra=extra)
    modules = {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if {owner.lower() for owner in owners} & wanted
    }
    program = f"import json, sys, {candidate.module}; print(json.dumps(sorted(sys.modules)))"
    shown = subprocess.run(  # noqa: S603 this interpreter
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    if shown.returncode != 0:
        yield Finding("imports", f"{candidate.module} cannot be imported alone")
        return
    for module in sorted(modules & set(json.loads(shown.stdout))):
        yield Finding("imports", f"loading the plugin imports {module!r} of its extra {extra!r}")


def _distributions_of(distribution: str, *, extra: str) -> set[str]:
    found: set[str] = set()
    for text in importlib.metadata.requires(distribution) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
            found.add(requirement.name.lower())
    return found
