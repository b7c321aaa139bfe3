"""``docs/settings.md``, generated from the settings classes: ``python -m
ucm.runtime.settings_reference``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ucm.domain.settings import GeneralSettings
from ucm.runtime.boot import PREFIX, BootSettings, known_variables

HEAD = """# Settings

Generated from the code (`make settings-reference`); a test compares the two.

## Boot settings

Fixed for the life of the processes. Sources, later wins: default, `/etc/ucm/ucm.toml` (or the file
that `UCM_CONFIG` names), `/etc/ucm/ucm.env`, environment, command line. A variable `UCM_...` that
UCM does not know stops the start and names the nearest known one.

"""
GENERAL = """
## General settings

Changed at run time: `GET` and `PATCH /api/v2/settings/general`, in force in every process within a
second. `UCM_GENERAL__<NAME>` in the environment outranks the database and locks the setting; the
settings class of a plugin is set in the same way, `UCM_<PLUGIN>__<FIELD>`.

"""


def render() -> str:
    """The whole document."""
    variables = known_variables()
    plain = {name for name in variables if not name.startswith(PREFIX)}
    lines = [HEAD + "| variable | default | meaning |", "|---|---|---|"]
    for name, field in BootSettings.model_fields.items():
        variable = name.upper() if name.upper() in plain else f"{PREFIX}{name.upper()}"
        lines.append(_row(variable, field))
    lines.append(GENERAL + "| setting | default | bounds | meaning |")
    lines.append("|---|---|---|---|")
    lines += _general(GeneralSettings)
    return "\n".join(lines) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {_default(field)} | {field.description} |"


def _general(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        bounds = ", ".join(
            f"{sign} {getattr(rule, key)}"
            for rule in field.metadata
            for key, sign in (("ge", "&ge;"), ("le", "&le;"))
            if hasattr(rule, key)
        )
        yield f"| `{name}` | {_default(field)} | {bounds} | {field.description} |"


def _default(field: FieldInfo) -> str:
    value = field.get_default()
    if value in (None, "", ()) or "Secret" in type(value).__name__:
        return "-"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.stdout.write(render())
