"""What commands say while something takes long; on stderr, so that output stays readable."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ucm.api.keys import KeySpec
from ucm.services.rotation import Progress

_SLOW = {
    KeySpec.RSA_3072: "about a second",
    KeySpec.RSA_4096: "a few seconds",
    KeySpec.RSA_8192: "a minute or more",
}


def announce_key(spec: KeySpec) -> None:
    """One line before a key whose making takes long: the search for its primes is luck."""
    duration = _SLOW.get(spec)
    if duration is not None:
        click.echo(f"making an {spec.value} key; this may take {duration} ...", err=True)


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """A bar that follows calls with how much is done of how much; later walks over what is done
    already leave it where it is."""
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def follow(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(max(done - bar.pos, 0))

        yield follow
