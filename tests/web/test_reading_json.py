"""Bodies are read strictly: what is not one plain JSON object is refused with the reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucm.api.errors import Invalid
from ucm.web.errors import MalformedJson
from ucm.web.requests import escape_pointer, parse_json


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not JSON"),
        (b"{", "line 1, column 2"),
        (b"[]", "one JSON object"),
        (b'"text"', "one JSON object"),
        (b"null", "one JSON object"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1, "a": 2}', "'a' appears twice"),
        (b'{"b": [{"a": 1, "a": 1}]}', "'a' appears twice"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested deeper"),
        (b'{"a": ' + b"9" * 5000 + b"}", "number that is too long"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1} {"b": 2}', "not JSON"),
    ],
)
def test_refused_texts(text, says):
    with pytest.raises(MalformedJson) as refused:
        parse_json(text)
    assert says in refused.value.detail


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (b'{"a": "x\\u0000"}', "/a"),
        (b'{"a": [1, {"b/c": "\\u0000"}]}', "/a/1/b~1c"),
        (b'{"a\\u0000": 1}', "/a\\0"),
        (b'{"a": "\\ud800"}', "/a"),
    ],
)
def test_nul_and_half_characters_are_refused_by_place(text, pointer):
    with pytest.raises(Invalid) as refused:
        parse_json(text)
    assert [field.pointer for field in refused.value.fields] == [pointer]


plain = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(plain, max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(plain, max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(plain, max_size=5), values, max_size=4))
def test_every_clean_object_is_read_as_it_was_written(document):
    assert parse_json(json.dumps(document).encode()) == document


@given(st.binary(max_size=60))
def test_arbitrary_bytes_never_raise_anything_else(data):
    try:
        document = parse_json(data)
    except Invalid:
        return
    assert isinstance(document, dict)


def test_pointer_steps_are_escaped():
    assert escape_pointer("a/b~c") == "a~1b~0c"
