"""The revisions of an owner's migration package, read from their source.

Every start must know whether something is pending. Alembic, which can tell too, is a tenth of all
modules that the server would hold, so it is imported only to change or compare a schema.
"""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path

from ucm.api.errors import Invalid

_ASSIGNED = re.compile(r"^(revision|down_revision)\b[^=\n]*=[ \t]*(.+)$", re.MULTILINE)


def folder(package: str) -> Path:
    """Where a package is. Raises ``LookupError`` when there is none of that name."""
    spec = find_spec(package)
    locations = None if spec is None else spec.submodule_search_locations
    if not locations:
        raise LookupError(f"{package} is not a package with revisions")
    return Path(next(iter(locations)))


def in_order(package: str) -> tuple[str, ...]:
    """The identifiers of a package's revisions, oldest first; nothing of it is imported.

    Raises ``LookupError`` when there is no such package, ``Invalid`` for a file without
    literal ``revision`` and ``down_revision``, and for revisions that are not one line from the
    first to the newest: a database has one version per owner.
    """
    following: dict[str | None, str] = {}
    paths = sorted(path for path in folder(package).glob("*.py") if path.name != "__init__.py")
    for path in paths:
        revision, before = _read(path)
        if before in following:
            raise Invalid(
                f"{package}: {following[before]} and {revision} both follow {before}; "
                "set down_revision so that the revisions are one line"
            )
        following[before] = revision
    line: list[str] = []
    last: str | None = None
    while last in following:
        last = following.pop(last)
        line.append(last)
    if following:
        lost = ", ".join(sorted(following.values()))
        raise Invalid(
            f"{package}: {lost} cannot be reached from the first revision; "
            "the down_revision of each must name another one, of the first None"
        )
    return tuple(line)


def _read(path: Path) -> tuple[str, str | None]:
    # By pattern: parsing the source of all tables takes a hundred times as long.
    found: dict[str, object] = {}
    for name, value in _ASSIGNED.findall(path.read_text(encoding="utf-8")):
        try:
            found.setdefault(name, ast.literal_eval(value))
        except (SyntaxError, ValueError):
            found[name] = ...
    revision, before = found.get("revision"), found.get("down_revision", ...)
    if not isinstance(revision, str) or not (before is None or isinstance(before, str)):
        raise Invalid(
            f"{path} needs revision = '...' and down_revision = '...' (None for the first), each "
            "on one line and written as a literal"
        )
    return revision, before
