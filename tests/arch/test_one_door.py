"""What may be done in one place only, and what may be done nowhere."""

import ast
import re
import tokenize
from io import StringIO

import pytest

BUILDER = "ucm/issuance/builder.py"
MAY_CATCH_ALL = {"ucm/runtime/dispatch.py", "ucm/runtime/scheduler.py", "ucm/web/problems.py"}
_COMMENT_WITHOUT_ISSUE = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))")


def _at(source, node):
    return f"{source.path}:{node.lineno}"


def _names(tree):
    """Yield every (name, node) that the code refers to: imported, bare or as an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, node
        elif isinstance(node, ast.Attribute):
            yield node.attr, node
        elif isinstance(node, ast.alias):
            yield node.name.rpartition(".")[2], node


def certificates_made_outside_the_builder(sources):
    forbidden = {"CertificateBuilder", "random_serial_number"}
    return [
        f"{_at(source, node)} {name}"
        for source in sources
        if source.path != BUILDER
        for name, node in _names(source.tree)
        if name in forbidden
    ]


def commits_outside_the_store(sources):
    return [
        _at(source, node)
        for source in sources
        if not source.path.startswith("ucm/store/")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "commit"
    ]


def _is_catch_all(expression):
    if isinstance(expression, ast.Tuple):
        return any(_is_catch_all(element) for element in expression.elts)
    name = getattr(expression, "id", getattr(expression, "attr", None))
    return name in {"Exception", "BaseException"}


def _reraises(handler):
    """Clean-up that passes the exception on hides nothing."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def catch_alls(sources):
    found = []
    for source in sources:
        if source.path in MAY_CATCH_ALL:
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ExceptHandler):
                everything = node.type is None or _is_catch_all(node.type)
                if everything and not _reraises(node):
                    found.append(_at(source, node))
            elif isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", None))
                if name == "suppress" and any(map(_is_catch_all, node.args)):
                    found.append(_at(source, node))
    return found


def mocks(sources):
    found = []
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                continue
            if any(re.match(r"(unittest\.mock|mock|pytest_mock)\b", module) for module in modules):
                found.append(_at(source, node))
    return found


def relative_imports(sources):
    return [
        _at(source, node)
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]


def promises_without_an_issue(sources):
    found = []
    for source in sources:
        if "TODO" not in source.text and not _COMMENT_WITHOUT_ISSUE.search(source.text):
            continue
        for token in tokenize.generate_tokens(StringIO(source.text).readline):
            if token.type == tokenize.COMMENT and _COMMENT_WITHOUT_ISSUE.search(token.string):
                found.append(f"{source.path}:{token.start[0]}")
    return found


def test_only_the_builder_makes_certificates(production):
    assert not certificates_made_outside_the_builder(production)


def test_only_the_store_commits(production):
    assert not commits_outside_the_store(production)


def test_no_exception_is_swallowed_whole(sources):
    assert not catch_alls([source for source in sources if not source.is_test])


def test_nothing_is_mocked(sources):
    assert not mocks(sources)


def test_imports_are_absolute(sources):
    assert not relative_imports(sources)


def test_every_promise_names_its_issue(sources):
    assert not promises_without_an_issue(sources)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (certificates_made_outside_the_builder, "from cryptography.x509 import CertificateBuilder"),
        (certificates_made_outside_the_builder, "serial = x509.random_serial_number()"),
        (commits_outside_the_store, "session.commit()"),
        (catch_alls, "try:\n  f()\nexcept Exception:\n  pass"),
        (catch_alls, "try:\n  f()\nexcept (OSError, builtins.Exception) as e:\n  raise X from e"),
        (catch_alls, "try:\n  f()\nexcept:\n  pass"),
        (catch_alls, "with contextlib.suppress(Exception):\n  f()"),
        (mocks, "from unittest import mock"),
        (mocks, "import unittest.mock as m"),
        (relative_imports, "from . import x"),
        (promises_without_an_issue, "x = 1  # TODO later"),
    ],
)
def test_each_rule_finds_what_it_forbids(rule, text):
    from types import SimpleNamespace

    source = SimpleNamespace(path="ucm/services/x.py", text=text, tree=ast.parse(text))
    assert rule([source])


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (catch_alls, "try:\n  f()\nexcept BaseException:\n  undo()\n  raise"),
        (catch_alls, "try:\n  f()\nexcept OSError:\n  pass"),
        (promises_without_an_issue, "x = 1  # TODO(#12) drop with API 2"),
        (promises_without_an_issue, "x = 'TODO'"),
    ],
)
def test_no_rule_forbids_what_is_right(rule, text):
    from types import SimpleNamespace

    source = SimpleNamespace(path="ucm/services/x.py", text=text, tree=ast.parse(text))
    assert not rule([source])
