"""The tables of the report about labels: precision and recall, and which label was taken for which."""

from collections.abc import Iterator, Mapping, Sequence

from pika_tagger._agreement import Confusion

WIDTH = 100
_NARROWEST = 3
_FAILED = "-"


def label_table(confusion: Confusion, first: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """Return the lines of the table of labels; those that do not occur anywhere are left out.

    Args:
        confusion: Which label was taken for which.
        first: For a label, how many of how many rows that name it first got an acceptable answer.
    """
    yield f"\nby label       precision    recall        F1   support   first named      macro-F1 {confusion.macro_f1:.4f}"
    yield "  (an answer that its row accepts is the true label; first named: accepted answers / such rows)"
    for label, figures in confusion.by_label().items():
        if figures.f1 is not None or label in first:
            shares = "".join(f"{share_text(share):>10}" for share in (figures.precision, figures.recall, figures.f1))
            right, total = first.get(label, (0, 0))
            yield f"  {label:<12}{shares}{figures.support:>10}{f'{right} / {total}':>15}"


def confusion_table(confusion: Confusion) -> Iterator[str]:
    """Return the lines of the confusion counts, at most `WIDTH` wide; labels without any count are left out, and zeros are dots."""
    kept = [index for index, figures in enumerate(confusion.by_label().values()) if figures.f1 is not None]
    rows = [[confusion.counts[row][column] for column in kept] for row in kept]
    any_failed = any(confusion.failed)
    if any_failed:
        rows = [[*row, confusion.failed[index]] for row, index in zip(rows, kept, strict=True)]
    columns = len(rows[0])
    width = (WIDTH - 2 - columns) // (columns + 1)  # two blanks, the name of the row, and a blank before each column
    if width < max(_NARROWEST, *(len(str(count)) for row in rows for count in row)):
        yield "\nconfusion: too many labels for a table here, see the report file"
        return
    width = min(width, max(_NARROWEST, *(len(confusion.labels[index]) for index in kept)))
    names = short_names([confusion.labels[index] for index in kept], width)
    yield "\nconfusion: rows true, columns predicted" + (f", {_FAILED} request failed" if any_failed else "")
    yield _line("", [*names, _FAILED] if any_failed else names, width)
    for name, row in zip(names, rows, strict=True):
        yield _line(name, [str(count or ".") for count in row], width)


def short_names(labels: Sequence[str], width: int) -> list[str]:
    """Return names of at most `width` characters: the beginning of each label, ending in a number where two would be the same."""
    names: list[str] = []
    for label in labels:
        name, number = label[:width], 1
        while name in names:
            number += 1
            name = f"{label[: width - len(str(number))]}{number}"
        names.append(name)
    return names


def share_text(share: float | None) -> str:
    """Return a share in percent, or a dash where there is none."""
    return "-" if share is None else f"{share:.1%}"


def _line(name: str, cells: Sequence[str], width: int) -> str:
    return f"  {name:<{width}}" + "".join(f" {cell:>{width}}" for cell in cells)
