"""Is this a plugin, and are its hooks written as the specification says? Decided before any hook is
called.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

import pluggy
from pluggy import HookImpl

from ucm.api import hooks as specifications
from ucm.api.manifest import API_VERSION, PluginManifest
from ucm.runtime.boot import nearest
from ucm.runtime.registry import Hook, PluginRefused, State

PROJECT = "ucm"


def new_manager() -> pluggy.PluginManager:
    """A plugin manager of the application's own with the hooks of ``ucm.api``."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specifications)
    return manager


def known_hooks(manager: pluggy.PluginManager) -> dict[str, Callable[..., Any]]:
    """Every hook with its specification."""
    found: dict[str, Callable[..., Any]] = {}
    for name, caller in vars(manager.hook).items():
        if isinstance(caller, pluggy.HookCaller) and caller.spec is not None:
            found[name] = caller.spec.function
    return found


def manifest_of(plugin: object, *, name: str) -> PluginManifest:
    """The plugin's manifest. Raises ``PluginRefused``."""
    manifest = getattr(plugin, "manifest", None)
    if not isinstance(manifest, PluginManifest):
        raise PluginRefused(
            f"the entry point gives {type(plugin).__name__!r} without an attribute 'manifest' "
            "of type PluginManifest"
        )
    if manifest.name != name:
        raise PluginRefused(
            f"the manifest says name={manifest.name!r}, but the entry point is called {name!r}; "
            "they must be equal"
        )
    if not manifest.accepts_api():
        raise PluginRefused(
            f"the plugin wants plugin API {manifest.api}, this UCM has {API_VERSION}; "
            "install a version of the plugin that was made for it",
            state=State.INCOMPATIBLE,
        )
    return manifest


def register(manager: pluggy.PluginManager, plugin: object, *, name: str) -> dict[str, Hook]:
    """Register a plugin and return its hooks. Raises ``PluginRefused`` and leaves nothing behind
    then.
    """
    try:
        manager.register(plugin, name=name)
    except pluggy.PluginValidationError as error:
        raise PluginRefused("; ".join(str(error).splitlines()[1:])) from None
    try:
        _refuse_unmarked(plugin, known=known_hooks(manager))
        found: dict[str, Hook] = {}
        for caller in manager.get_hookcallers(plugin) or ():
            for implementation in caller.get_hookimpls():
                if implementation.plugin is not plugin:
                    continue
                specification = caller.spec
                if specification is None:
                    raise PluginRefused(
                        f"there is no hook {caller.name!r}."
                        f"{nearest(caller.name, known=known_hooks(manager))}"
                    )
                found[caller.name] = _checked(
                    implementation, name=caller.name, specification=specification.function
                )
    except PluginRefused:
        manager.unregister(plugin)
        raise
    return found


def _refuse_unmarked(plugin: object, *, known: Mapping[str, object]) -> None:
    for name in dir(plugin):
        if not name.startswith("ucm_"):
            continue
        member = inspect.getattr_static(plugin, name)
        if isinstance(member, (staticmethod, classmethod)):
            member = member.__func__
        if not inspect.isfunction(member) or hasattr(member, f"{PROJECT}_impl"):
            continue
        if inspect.isfunction(plugin) or hasattr(member, f"{PROJECT}_spec"):
            continue
        if name in known:
            raise PluginRefused(f"{name} is not marked with @hookimpl, so it would never be called")


def _checked(implementation: HookImpl, *, name: str, specification: Callable[..., Any]) -> Hook:
    if implementation.hookwrapper or implementation.wrapper:
        raise PluginRefused(f"{name} is a wrapper; a plugin may answer for itself only")
    function = implementation.function
    parameters = inspect.signature(function).parameters
    expected = inspect.signature(specification).parameters
    for parameter in parameters.values():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            raise PluginRefused(f"{name} takes {parameter}; name the arguments you use instead")
        if parameter.name not in expected:
            raise PluginRefused(
                f"{name} has no argument {parameter.name!r}; "
                f"it has: {', '.join(expected) or 'none'}"
            )
        if parameter.default is not parameter.empty:
            raise PluginRefused(f"{name}: argument {parameter.name!r} must not have a default")
    _compare_annotations(function, name=name, specification=specification)
    order = -1 if implementation.tryfirst else 1 if implementation.trylast else 0
    return Hook(function, tuple(parameters), order)


def _compare_annotations(
    function: Callable[..., Any], *, name: str, specification: Callable[..., Any]
) -> None:
    signature, expected = inspect.signature(function), inspect.signature(specification)
    wanted = typing.get_type_hints(specification)
    try:
        given = typing.get_type_hints(function)
    except (NameError, AttributeError, TypeError):
        given = {}  # names that exist for type checkers only: compare the text
    if signature.return_annotation is signature.empty:
        raise PluginRefused(f"{name} has no return annotation; write the specification's")
    for parameter in signature.parameters.values():
        target = expected.parameters[parameter.name].annotation
        if parameter.annotation is parameter.empty:
            raise PluginRefused(f"{name}: annotate {parameter.name!r} as {_text(target)}")
        if given:
            same = given[parameter.name] == wanted[parameter.name]
        else:
            same = _text(parameter.annotation) == _text(target)
        if not same:
            raise PluginRefused(
                f"{name}: {parameter.name!r} is annotated as {_text(parameter.annotation)}, "
                f"the specification says {_text(target)}"
            )


def _text(annotation: object) -> str:
    if isinstance(annotation, str):
        text = annotation.strip("'\"")
    elif isinstance(annotation, type):
        text = annotation.__name__
    else:
        text = str(annotation)
    return " | ".join(part.strip().rpartition(".")[2] for part in text.split("|"))
