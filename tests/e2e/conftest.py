"""Real servers for the end-to-end tests."""

from __future__ import annotations

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
