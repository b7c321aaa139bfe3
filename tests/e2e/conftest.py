"""Real servers for the end-to-end tests, and plugins installed for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ucm.testing.server import RunningServer, running_server

StartServer = Callable[..., RunningServer]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers with their data below ``tmp_path``; all are stopped at the end."""
    with ExitStack() as stack:

        def start(*, signed_in: bool = True, **environment: str) -> RunningServer:
            return stack.enter_context(
                running_server(tmp_path, environment=environment, signed_in=signed_in)
            )

        yield start


class Site:
    """A directory that servers with its ``python_path`` find installed plugins in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    @property
    def python_path(self) -> str:
        """A value of ``PYTHONPATH``: this directory before what is on it already."""
        others = os.environ.get("PYTHONPATH")
        return str(self.path) if not others else f"{self.path}{os.pathsep}{others}"

    def install(self, name: str, source: str) -> None:
        """Make a plugin of one module, ``ucm_<name>``, an installed distribution."""
        module = f"ucm_{name}"
        (self.path / f"{module}.py").write_text(source)
        info = self.path / f"{module}-1.0.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: ucm-{name}\nVersion: 1.0\n"
        (info / "METADATA").write_text(metadata)
        (info / "entry_points.txt").write_text(f"[ucm.plugins]\n{name} = {module}:plugin\n")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty site directory."""
    return Site(tmp_path / "site")
