"""Where the boot settings in force come from, for people who wonder why one has its value."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from dotenv import dotenv_values
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from ucm.runtime.boot import ENV_FILE, PREFIX, TOML_FILE, BootSettings

_CREDENTIALS = re.compile(r"//[^/@]*@")


@dataclass(frozen=True, slots=True)
class GivenSetting:
    """A setting that is not left at its default: its variable, its value as it was written (of a
    secret only that it is set) and where."""

    name: str
    value: str
    source: str


def given_settings(*, env_file: Path = ENV_FILE, **overrides: Any) -> Iterator[GivenSetting]:
    """What is given, each from the source that wins, in the order of the fields.

    ``overrides`` are the command line's, ``None`` for what it does not say. Values are not
    checked, so that this helps when ``BootSettings.load`` refuses them.
    """
    toml_file = Path(os.environ.get("UCM_CONFIG") or TOML_FILE)
    sources: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("command line", overrides),
        ("environment", os.environ),
        (str(env_file), dotenv_values(env_file) if env_file.is_file() else {}),
        (str(toml_file), _toml(toml_file)),
    )
    lowered = [(where, {k.lower(): v for k, v in found.items()}) for where, found in sources]
    for field, info in BootSettings.model_fields.items():
        for position, (where, found) in enumerate(lowered):
            # Variables carry the prefix; the command line and ucm.toml use the field's own name.
            bare = position in (0, len(lowered) - 1)
            value = next(
                (
                    found[n]
                    for n in _names(field, info, bare=bare)
                    if found.get(n) not in (None, "")
                ),
                None,
            )
            if value is not None:
                yield GivenSetting(_variable(field, info), _shown(value, info), where)
                break


def _names(field: str, info: FieldInfo, *, bare: bool) -> list[str]:
    names = [field] if bare else [f"{PREFIX}{field}".lower()]
    if isinstance(info.validation_alias, AliasChoices):
        names += [str(choice).lower() for choice in info.validation_alias.choices]
    return names


def _variable(field: str, info: FieldInfo) -> str:
    return field.upper() if info.validation_alias is not None else f"{PREFIX}{field.upper()}"


def _shown(value: Any, info: FieldInfo) -> str:
    if SecretStr in (info.annotation, *get_args(info.annotation)):
        return "set"
    return _CREDENTIALS.sub("//...@", str(value))


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # whoever loads the settings says what is wrong with the file
