"""Parts of a page in docs/ that a command makes: between two marks, everything else by hand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

END = "<!-- end -->"


@dataclass(frozen=True)
class MadePart:
    """The part of a page, and the command that makes it, as its first mark says."""

    page: Path
    command: str

    @property
    def begin(self) -> str:
        """The mark before it."""
        return f"<!-- made by `{self.command}` -->"

    def marked(self, text: str) -> str:
        """The text as it stands in the page."""
        return f"{self.begin}\n{text}\n{END}"

    def write(self, text: str) -> None:
        """Put the text in the place of what is there; the page has both marks."""
        before, rest = self.page.read_text(encoding="utf-8").split(self.begin)
        after = rest.split(END, 1)[1]
        self.page.write_text(f"{before}{self.marked(text)}{after}", encoding="utf-8")


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, with columns as wide as their longest cell."""
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings))]

    def lines() -> Iterator[str]:
        for row in (headings, ["-" * width for width in widths], *rows):
            yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"

    return "\n".join(lines())
