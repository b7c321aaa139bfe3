"""Reading requests: strict JSON, the base classes of bodies, queries and paths."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any, ClassVar, Self

from flask import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ucm.api.errors import FieldError, Invalid
from ucm.web.errors import MalformedJson, UnsupportedMediaType

CSRF_FIELD = "_csrf_token"
_JSON_KEY = "ucm.json"
_CSRF_KEY = "ucm.csrf_field"
_MAX_DEPTH = 32
LARGEST_ID = 2**63 - 1
"""Row ids are signed 64-bit integers on every database."""

RowId = Annotated[int, Field(ge=1, le=LARGEST_ID)]
"""An id in a body or a query; a larger number fits no database."""


class StrictRequest(Request):
    """A request whose JSON is read strictly: one object, unique names, no NUL, no NaN."""

    max_form_parts = 100

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The parsed body, without the field ``_csrf_token``.

        Raises ``UnsupportedMediaType`` or ``MalformedJson`` also when ``silent``: a body that
        cannot be read must not pass for an empty one. A body that is not there is ``None`` when
        ``silent``.
        """
        cached = self.environ.get(_JSON_KEY)
        if cached is None:
            data = self.get_data(cache=True)
            if silent and not data:
                return None
            if not force and not self.is_json:
                raise UnsupportedMediaType(
                    f"The body is read as application/json, not as {self.mimetype or 'nothing'}.",
                    hint="Send the header Content-Type: application/json.",
                )
            cached = parse_json(data)
            token = cached.pop(CSRF_FIELD, None)
            self.environ[_JSON_KEY] = cached
            self.environ[_CSRF_KEY] = token if isinstance(token, str) else None
        return cached

    @property
    def csrf_field(self) -> str | None:
        """The token in the body's field ``_csrf_token``, for clients that cannot set headers."""
        if not self.is_json:
            return None
        try:
            self.get_json()
        except Invalid:
            return None
        token = self.environ.get(_CSRF_KEY)
        return token if isinstance(token, str) else None


def parse_json(data: bytes) -> dict[str, Any]:
    """One JSON object. Raises ``MalformedJson`` that says what is wrong with the text."""
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_names,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError:
        raise _malformed("JSON is UTF-8 (RFC 8259 8.1); these bytes are not.") from None
    except RecursionError:
        raise _malformed(f"The JSON is nested deeper than {_MAX_DEPTH} levels.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        problem = error.msg.removesuffix(" at")
        raise _malformed(f"The body is not JSON: {problem} at {where}.") from None
    except ValueError:  # int() refuses numbers of more than 4300 digits
        raise _malformed("The JSON contains a number that is too long.") from None
    if not isinstance(document, dict):
        raise _malformed('The body must be one JSON object, like {"name": "value"}.')
    _refuse_nul(document, pointer="", depth=0)
    return document


def _malformed(detail: str) -> MalformedJson:
    return MalformedJson(detail, hint="Send one JSON object (RFC 8259).")


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise MalformedJson(
            f"The name {twice[:64]!r} appears twice in one object (RFC 7493 2.3).",
            hint="Send each name once.",
            fields=[
                FieldError(f"/{escape_pointer(twice[:64])}", "duplicate-name", "Appears twice.")
            ],
        )
    return names


def _refuse_constant(name: str) -> None:
    raise _malformed(f"{name} is not JSON (RFC 8259 6).")


def _refuse_nul(value: Any, *, pointer: str, depth: int) -> None:
    """NUL and lone surrogates end strings early or break encoders further down; refuse them."""
    if depth > _MAX_DEPTH:
        raise _malformed(f"The JSON is nested deeper than {_MAX_DEPTH} levels.")
    if isinstance(value, str):
        _refuse_bad_text(value, pointer=pointer)
    elif isinstance(value, dict):
        for name, member in value.items():
            here = f"{pointer}/{escape_pointer(name)}"
            _refuse_bad_text(name, pointer=here)
            _refuse_nul(member, pointer=here, depth=depth + 1)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            _refuse_nul(member, pointer=f"{pointer}/{index}", depth=depth + 1)


def _refuse_bad_text(text: str, *, pointer: str) -> None:
    if text.isascii():
        bad = "\0" in text
    else:
        bad = "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
    if bad:
        shown = pointer.replace("\0", "\\0").encode("utf-8", "replace").decode()
        raise Invalid.field(
            shown, "bad-text", "Text must not contain NUL or half of a surrogate pair."
        )


def escape_pointer(name: str) -> str:
    """A name as one step of a JSON pointer (RFC 6901 3)."""
    return name.replace("~", "~0").replace("/", "~1")


class Body(BaseModel):
    """Base of JSON bodies: unknown fields and wrong types are refused, nothing is converted.

    Values are validated as JSON (``strict`` in pydantic's JSON mode): text for dates and enum
    members, but no number for text and no text for a number.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Validate a parsed JSON object by the JSON rules, where text may stand for dates."""
        if isinstance(obj, dict):
            return cls.model_validate_json(json.dumps(obj), **options)
        return super().model_validate(obj, **options)


class _FromText(BaseModel):
    """Parameters arrive as text, so they are converted; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    _schemas: ClassVar[dict[tuple[type, str], dict[str, Any]]] = {}

    @classmethod
    def model_json_schema(cls, *arguments: Any, **options: Any) -> dict[str, Any]:
        """The JSON schema, made once: the web framework asks for it at every request."""
        key = (cls, repr((arguments, sorted(options))))
        known = _FromText._schemas.get(key)
        if known is None:
            known = _FromText._schemas[key] = super().model_json_schema(*arguments, **options)
        return known


class Query(_FromText):
    """Base of query parameters; unknown parameters are refused, because a misspelt filter would
    otherwise answer with everything.
    """


class Path(_FromText):
    """Base of path parameters."""


class IdPath(Path):
    """``<int:id>``: the row id of the object."""

    id: int = Field(ge=1, le=LARGEST_ID, description="Row id")


class PageQuery(Query):
    """``page`` (from 1) and ``per_page`` (at most 100)."""

    page: int = Field(default=1, ge=1, le=1_000_000, description="Page, from 1")
    per_page: int = Field(default=50, ge=1, le=100, description="Rows per page, at most 100")


_SENTENCES = {
    "extra_forbidden": "This field is not known here.",
    "missing": "This field is required.",
}


def invalid_from(error: ValidationError, *, parameters: bool) -> Invalid:
    """``Invalid`` with one field error per violation; values are never repeated.

    ``parameters``: the model holds query or path parameters, which a JSON pointer cannot name; a
    ``?`` before the name marks them for the renderer.
    """
    fields = []
    for entry in error.errors(include_url=False, include_context=False, include_input=False):
        steps = [escape_pointer(str(step)) for step in entry["loc"]]
        pointer = f"?{'/'.join(steps)}" if parameters else "".join(f"/{step}" for step in steps)
        detail = _SENTENCES.get(entry["type"]) or _sentence(entry["msg"])
        fields.append(FieldError(pointer, entry["type"].replace("_", "-"), detail))
    named = ", ".join(dict.fromkeys(field.pointer.lstrip("?") or "the body" for field in fields))
    return Invalid(
        f"The request is not valid: {named}. {fields[0].detail}",
        hint="The list of errors names each field and its rule; the schema is in /api/docs.",
        fields=fields,
    )


def _sentence(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
