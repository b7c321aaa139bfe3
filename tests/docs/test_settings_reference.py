"""docs/settings.md is what the settings classes say."""

from __future__ import annotations

from pathlib import Path

from ucm.runtime.settings_reference import render

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "settings.md"


def test_the_document_is_the_generated_one() -> None:
    assert DOCUMENT.read_text() == render(), "run: make settings-reference"


def test_every_setting_says_what_it_means() -> None:
    rows = [line for line in render().splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    assert all(len(row.rstrip(" |").rpartition("|")[2].strip()) > 10 for row in rows)
