"""docs/errors.md has a heading for every code, and none for codes that do not exist."""

import importlib
import pkgutil
import re
from pathlib import Path

import ucm
from ucm.api.errors import UcmError
from ucm.server import problem

DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"
NOT_RAISED = {"error"}
"""The base class's own code; nothing raises it."""


def descendants(base):
    for child in base.__subclasses__():
        yield child
        yield from descendants(child)


def codes_of_the_tree():
    for module in pkgutil.walk_packages(ucm.__path__, "ucm."):
        if not module.name.startswith(("ucm.testing", "ucm.migrations", "ucm.cli")):
            importlib.import_module(module.name)
    raised = {
        child.code for child in descendants(UcmError) if child.__module__.startswith("ucm.")
    } - NOT_RAISED
    refused = {value.code for value in vars(problem).values() if isinstance(value, problem.Refusal)}
    return raised | refused | {problem.body_too_large(limit=1).code}


def test_every_code_has_its_heading():
    headings = set(re.findall(r"^### ([a-z-]+)$", DOCUMENT.read_text(), flags=re.MULTILINE))
    assert headings == codes_of_the_tree()


def test_codes_are_kebab_case_and_titles_are_there():
    for child in descendants(UcmError):
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", child.code), child
        assert child.title, child
