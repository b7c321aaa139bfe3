"""What the rules about the tree look at: its own files, parsed once."""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_SKIPPED = {"__pycache__", "node_modules", "build", "dist"}


@dataclass(frozen=True)
class Source:
    """A Python file: its path from the root in POSIX form, its text, its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def is_test(self) -> bool:
        return "tests" in Path(self.path).parts or Path(self.path).name == "conftest.py"


def _sources(*folders: str) -> list[Source]:
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if _SKIPPED.isdisjoint(path.parts):
                text = path.read_text("utf-8")
                found.append(Source(path.relative_to(ROOT).as_posix(), text, ast.parse(text)))
    return found


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    """Every Python file of the repository, tests included."""
    return _sources("ucm", "plugins", "tests", "examples", "benchmarks")


@pytest.fixture(scope="session")
def production(sources: list[Source]) -> list[Source]:
    """What ships: the core and the plugins, without their tests and without the test kit."""
    return [
        source
        for source in sources
        if source.path.startswith(("ucm/", "plugins/"))
        and not source.is_test
        and not source.path.startswith("ucm/testing/")
    ]
