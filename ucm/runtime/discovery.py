"""Which plugins are installed and which are wanted. Nothing of a plugin is imported here."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement

from ucm.api.issuance import Operation
from ucm.runtime.boot import BootError, nearest

GROUP = "ucm.plugins"
FIRST_PARTY = "ucm"
DEFAULT_SET = ("softkeys",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An installed plugin, not imported yet."""

    name: str
    distribution: str
    version: str
    module: str
    load: Callable[[], object] = field(repr=False)
    shadowed_by: str | None = None
    """Distribution whose plugin of the same name is used instead of this one."""

    @classmethod
    def of(cls, name: str, *, plugin: object) -> Candidate:
        """A candidate for an object that exists already (tests, embedding)."""
        module = getattr(plugin, "__module__", None) or getattr(plugin, "__name__", "")
        return cls(
            name=name,
            distribution="",
            version="",
            module=str(module).partition(".")[0],
            load=lambda: plugin,
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """A selected plugin; ``required`` ones stop the start when they do not run."""

    name: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Declared:
    """What a plugin's source says about its manifest, read without running it."""

    guards: frozenset[Operation] = frozenset()
    extra: str | None = None


def discover(
    entry_points: Iterable[importlib.metadata.EntryPoint] | None = None,
) -> list[Candidate]:
    """Every plugin of the entry-point group; of equal names UCM's own wins, then the first by
    distribution.
    """
    if entry_points is None:
        entry_points = importlib.metadata.entry_points(group=GROUP)
    found = [_candidate(point) for point in entry_points]
    found.sort(key=lambda c: (c.name, c.distribution != FIRST_PARTY, c.distribution))
    kept: dict[str, Candidate] = {}
    result: list[Candidate] = []
    for candidate in found:
        winner = kept.get(candidate.name)
        if winner is None:
            kept[candidate.name] = candidate
            result.append(candidate)
        elif (winner.distribution, winner.module) != (candidate.distribution, candidate.module):
            result.append(_shadowed(candidate, winner=winner.distribution))
    return result


def _candidate(point: importlib.metadata.EntryPoint) -> Candidate:
    distribution = point.dist
    return Candidate(
        name=point.name,
        distribution=distribution.name if distribution else "",
        version=distribution.version if distribution else "",
        module=point.module,
        load=point.load,
    )


def _shadowed(candidate: Candidate, *, winner: str) -> Candidate:
    return Candidate(
        name=candidate.name,
        distribution=candidate.distribution,
        version=candidate.version,
        module=candidate.module,
        load=candidate.load,
        shadowed_by=winner,
    )


def select(text: str, *, installed: Iterable[str]) -> list[Wanted]:
    """Parse ``default,acme,-x,hsm!``. Raises ``BootError`` for a name that is not installed."""
    known = set(installed)
    chosen: dict[str, Wanted] = {}
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        if part == "default":
            for name in DEFAULT_SET:
                chosen.setdefault(name, Wanted(name))
            continue
        name = part.removeprefix("-").removesuffix("!")
        if name not in known:
            raise BootError(
                f"UCM_PLUGINS names {part!r}, but no plugin {name!r} is installed."
                f"{nearest(name, known=known | {'default'})}",
                hint=f"Installed: {', '.join(sorted(known)) or 'none'}.",
            )
        if part.startswith("-"):
            chosen.pop(name, None)
        else:
            chosen[name] = Wanted(name, required=part.endswith("!"))
    return list(chosen.values())


def declared(module: str) -> Declared:
    """Read ``guards`` and ``extra`` of a plugin that cannot be imported from its source.

    Its guards must hold although its code does not run: a policy that breaks may not let
    certificates out.
    """
    guards: set[Operation] = set()
    extra: str | None = None
    for path in _sources(module):
        text = path.read_text(encoding="utf-8", errors="replace")
        if "PluginManifest" not in text:
            continue
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            if "guards" in text:
                guards |= _operations(text)
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _called(node) == "PluginManifest":
                for keyword in node.keywords:
                    if keyword.arg is None:  # **fields: guards may hide in it
                        guards |= set(Operation)
                    if keyword.arg == "guards":
                        guards |= _operations(ast.unparse(keyword.value))
                    if keyword.arg == "extra" and isinstance(keyword.value, ast.Constant):
                        extra = str(keyword.value.value)
    return Declared(frozenset(guards), extra)


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def _operations(text: str) -> set[Operation]:
    names = set(re.findall(r"Operation\.([A-Z_]+)", text))
    known = {operation for operation in Operation if operation.name in names}
    # A guards expression that cannot be read stops everything it could stand for.
    return known if known or re.search(r"frozenset\(\s*\)", text) else set(Operation)


def _sources(module: str) -> list[Path]:
    top = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top) if top else None
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return sorted(
            path
            for folder in spec.submodule_search_locations
            for path in Path(folder).rglob("*.py")
        )
    return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []


def missing_extra(error: BaseException, *, candidate: Candidate, extra: str | None) -> str | None:
    """``pip install 'dist[extra]'`` when the error means that the plugin's extra is not installed,
    else ``None``.

    A missing module of the plugin's own, or with the extra complete, means that the plugin is
    broken.
    """
    if not isinstance(error, ModuleNotFoundError) or extra is None or not error.name:
        return None
    if error.name.partition(".")[0] in (candidate.module.partition(".")[0], "ucm"):
        return None
    distribution = candidate.distribution or FIRST_PARTY
    try:
        requirements = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    wanted = [Requirement(text) for text in requirements]
    of_extra = [
        item
        for item in wanted
        if item.marker
        and item.marker.evaluate({"extra": extra})
        and not item.marker.evaluate({"extra": ""})
    ]
    if of_extra and all(_installed(item.name) for item in of_extra):
        return None
    return f"pip install '{distribution}[{extra}]'"


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def by_name(candidates: Iterable[Candidate]) -> Mapping[str, Candidate]:
    """The candidates that are in effect."""
    return {candidate.name: candidate for candidate in candidates if candidate.shadowed_by is None}
