"""The command ``ucm`` in this process, on data of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ucm.cli import main as cli

PASSWORD = "Command line 7!"

Ucm = Callable[..., Result]


@pytest.fixture
def ucm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ucm:
    """Run ``ucm`` with arguments; ``fails=True`` expects a refusal."""
    monkeypatch.setenv("UCM_DATA_DIR", str(tmp_path / "ucm-data"))
    monkeypatch.setenv("UCM_ADMIN_PASSWORD", PASSWORD)
    runner = CliRunner()

    def run(*arguments: str, fails: bool = False, text: str | None = None) -> Result:
        with monkeypatch.context() as patch:
            patch.setattr("sys.argv", ["ucm", *arguments])
            result = runner.invoke(_main, list(arguments), input=text)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert (result.exit_code != 0) == fails, result.output
        return result

    return run


class _Main:
    """``main()`` as CliRunner wants to call it: errors are shown the way users see them."""

    name = "ucm"

    def main(self, args: list[str], prog_name: str, **options: object) -> None:
        cli.main(args)


_main = _Main()
