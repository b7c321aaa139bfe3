"""One table of figures with the bound that each is held to."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """Collects rows; a figure without a bound is information."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def add(
        self,
        what: str,
        figure: float,
        *,
        unit: str,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """Record and print one figure; the verdict says whether its bound holds."""
        bound = verdict = ""
        if at_most is not None:
            bound = f"<= {at_most:g}"
            verdict = "holds" if figure <= at_most else "MISSED"
        if at_least is not None:
            bound = f">= {at_least:g}"
            verdict = "holds" if figure >= at_least else "MISSED"
        row = (
            what,
            f"{figure:,.3g} {unit}" if figure < 1000 else f"{figure:,.0f} {unit}",
            bound,
            verdict,
        )
        self.rows.append(row)
        print("  ".join(cell for cell in row if cell), flush=True)

    def missed(self) -> list[str]:
        """What does not keep its bound."""
        return [what for what, _, _, verdict in self.rows if verdict == "MISSED"]

    def print(self) -> None:
        """The whole table, and what does not keep its bound."""
        widths = [max((len(row[i]) for row in self.rows), default=0) for i in range(4)]
        for row in self.rows:
            print(
                "  ".join(
                    cell.ljust(width) for cell, width in zip(row, widths, strict=True)
                ).rstrip()
            )
        bounded = sum(1 for row in self.rows if row[2])
        missed = self.missed()
        print(f"\n{len(missed)} of {bounded} bounds missed{':' if missed else ''}")
        for what in missed:
            print(f"  {what}")
