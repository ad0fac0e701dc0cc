"""What an evaluation shows to people: progress on standard error, the report on standard output.

Only `--show-text` brings the words of a dialogue onto the screen.
"""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO, TypeVar

from pika_tagger._evaluate import Count, Figures, Outcome
from pika_tagger._tables import confusion_table, label_table, share_text

_WORST = 10

T = TypeVar("T")


def progress(items: Iterable[T], total: int, stream: TextIO) -> Iterator[T]:
    """Pass `items` through: with a bar if this is a terminal and tqdm is installed, with a line every 10 % otherwise."""
    if stream.isatty() and (tqdm := _tqdm()) is not None:
        yield from tqdm(items, total=total, file=stream, unit="dialogue", leave=False)
        return
    for done, item in enumerate(items, 1):
        yield item
        if done * 10 // total > (done - 1) * 10 // total:
            print(f"{done * 100 // total:3d} %  {done} of {total}", file=stream, flush=True)


def report(figures: Figures, outcomes: Sequence[Outcome], gap_ms: float, *, show_text: bool) -> Iterator[str]:
    """Return the lines of the report."""
    yield f"emotion    {_count(figures.emotion)}"
    yield f"celebrate  {_count(figures.celebrate)}"
    if figures.emotion_by_lang:
        yield "\nby language    emotion                celebrate"
        for lang, count in figures.emotion_by_lang.items():
            yield f"  {lang:<11}  {_count(count):<21}  {_count(figures.celebrate_by_lang[lang])}"
    yield "\nby first label emotion"
    for label, count in figures.emotion_by_label.items():
        yield f"  {label:<13}{_count(count)}"
    yield from label_table(figures.emotion_confusion)
    yield from confusion_table(figures.emotion_confusion)
    yield from _celebrations_and_calibration(figures)
    if figures.latency_ms:
        shown = "   ".join(f"{name} {value:.1f}" for name, value in figures.latency_ms.items())
        yield f"\nlatency in ms, {gap_ms:g} ms between requests: {shown}"
    wrong = [outcome for outcome in outcomes if not (outcome.emotion_right and outcome.celebrate_right)]
    if wrong:
        worst = sorted(wrong, key=lambda outcome: outcome.wrongness, reverse=True)[:_WORST]
        yield f"\nworst mistakes, {len(worst)} of {len(wrong)}"
        for outcome in worst:
            yield from _mistake(outcome, show_text)


def _celebrations_and_calibration(figures: Figures) -> Iterator[str]:
    yes = figures.celebrate_yes
    shares = f"precision {share_text(yes.precision)}   recall {share_text(yes.recall)}"
    yield f"\ncelebrate yes: {shares}   false {yes.false}   missed {yes.missed}"
    errors = (figures.emotion_calibration.expected_error, figures.celebrate_calibration.expected_error)
    yield f"expected calibration error: emotion {share_text(errors[0])}   celebrate {share_text(errors[1])}"


def _mistake(outcome: Outcome, show_text: bool) -> Iterator[str]:
    row, tag = outcome.row, outcome.tag
    where = f"  line {row.line}" + ("" if row.id is None else f" ({row.id})")
    if tag is None:
        yield f"{where}: request failed"
    else:
        parts = []
        if not outcome.emotion_right:
            parts.append(f"{tag.emotion_name} {tag.confidence:.2f}, wanted {' or '.join(row.emotions)}")
        if not outcome.celebrate_right:
            parts.append(f"celebrate {_yes(tag.celebrate)} {tag.celebrate_score:.2f}, wanted {_yes(row.celebrate)}")
        yield f"{where}: {'; '.join(parts)}"
    if show_text:
        for name, text in row.texts.items():
            yield f"      {name}: {text!r}"


def _count(count: Count) -> str:
    return f"{count.accuracy:7.1%}  {count.right} / {count.total}"


def _yes(celebrate: bool) -> str:
    return "yes" if celebrate else "no"


def _tqdm() -> type | None:
    try:
        bar: type = importlib.import_module("tqdm").tqdm
    except ImportError:
        return None
    return bar
