"""docs/plugin-authors.md shows the demo's files as they are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "ucm-plugin-demo"
PAGE = (ROOT / "docs" / "plugin-authors.md").read_text()
SNIPPETS = re.findall(r"^`([^`\n]+)`\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_code_block_names_its_file():
    assert len(SNIPPETS) == len(re.findall(r"^```\w+$", PAGE, re.MULTILINE)) > 10


@pytest.mark.parametrize(("name", "text"), SNIPPETS, ids=[f"{n}" for n, _ in SNIPPETS])
def test_a_snippet_is_text_of_its_file(name, text):
    assert text.rstrip() in (DEMO / name).read_text()


def test_every_module_of_the_demo_is_shown():
    shown = {name for name, _ in SNIPPETS}
    modules = {
        str(path.relative_to(DEMO))
        for path in (DEMO / "ucm_demo").rglob("*.py")
        if "migrations/__init__" not in str(path)
    }
    assert modules <= shown
