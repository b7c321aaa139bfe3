"""Print what plugins may rely on: every public name of ucm.api, with its signature.

`make api-surface` writes the listing to tests/arch/api_surface.txt.
"""

import dataclasses
import enum
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from types import ModuleType

import ucm.api

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_SET = re.compile(r"(?<=frozenset\(){([^{}]*)}")
_PRODUCED = re.compile(r"__\w+__|_\w*|model_\w+")  # by dataclass, pydantic, or not for others


def listing() -> str:
    """Return the listing: one block per module, one line per name or member, sorted."""
    modules = [ucm.api]
    for found in pkgutil.walk_packages(ucm.api.__path__, "ucm.api."):
        modules.append(importlib.import_module(found.name))
    blocks = ("\n".join(_module(module)) for module in modules)
    return "\n\n".join(blocks) + "\n"


def _module(module: ModuleType) -> Iterator[str]:
    yield module.__name__
    exported = getattr(module, "__all__", None)
    for name, value in sorted(vars(module).items()):
        if exported is not None and name not in exported:
            continue
        if exported is None and (name.startswith("_") or name == "TYPE_CHECKING"):
            continue
        home = getattr(value, "__module__", module.__name__)
        if isinstance(value, ModuleType) or (home != module.__name__ and exported is None):
            continue
        if home != module.__name__ and isinstance(home, str) and home.startswith("ucm.api"):
            yield f"  {name} = {home}.{getattr(value, '__qualname__', name)}"
        elif inspect.isclass(value):
            yield from _class(name, value)
        elif inspect.isroutine(value):
            yield f"  def {name}{_signature(value)}"
        else:
            yield f"  {name}: {type(value).__name__}"


def _class(name: str, value: type) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
    is_dataclass = dataclasses.is_dataclass(value)
    yield f"  class {name}({bases})" if bases else f"  class {name}"
    if issubclass(value, enum.Enum):
        yield from (f"    {member.name} = {member.value!r}" for member in value)
        return
    if "__init__" in vars(value) and getattr(value, "_is_protocol", False) is False:
        yield f"    def __init__{_signature(value.__init__)}"
    fields = set(vars(value).get("__annotations__", {}))
    if not is_dataclass:  # the signature of __init__ has shown its fields
        yield from (f"    {field}" for field in sorted(fields) if not _PRODUCED.fullmatch(field))
    for member, raw in sorted(vars(value).items()):
        if member in fields or _PRODUCED.fullmatch(member):
            continue
        if isinstance(raw, property):
            yield f"    property {member}{_signature(raw.fget)}"
        elif isinstance(raw, (staticmethod, classmethod)):
            yield f"    {type(raw).__name__} {member}{_signature(raw.__func__)}"
        elif inspect.isfunction(raw):
            yield f"    def {member}{_signature(raw)}"
        else:
            yield f"    {member}"


def _signature(function: object) -> str:
    if not callable(function):
        return "(...)"
    try:
        text = str(inspect.signature(function))
    except (TypeError, ValueError):
        return "(...)"
    return _SET.sub(_sorted_set, _ADDRESS.sub("", text))


def _sorted_set(found: re.Match[str]) -> str:
    """Write a set default in one order: its own changes from run to run."""
    return "{" + ", ".join(sorted(found[1].split(", "))) + "}"


if __name__ == "__main__":
    sys.stdout.write(listing())
