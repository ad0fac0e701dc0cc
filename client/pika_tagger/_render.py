"""What an evaluation shows to people: progress on standard error, the report on standard output.

Only `--show-text` brings the words of a dialogue onto the screen.
"""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO, TypeVar

from pika_tagger._evaluate import Count, Figures
from pika_tagger._outcomes import Outcome, celebrate_confidence
from pika_tagger._tables import confusion_table, label_table, share_text

_WORST = 10

T = TypeVar("T")


def progress(items: Iterable[T], total: int, stream: TextIO, unit: str = "dialogue") -> Iterator[T]:
    """Pass `items` through: with a bar if this is a terminal and tqdm is installed, with a line every 10 % otherwise."""
    if stream.isatty() and (tqdm := _tqdm()) is not None:
        yield from tqdm(items, total=total, file=stream, unit=unit, leave=False)
        return
    for done, item in enumerate(items, 1):
        yield item
        if done * 10 // total > (done - 1) * 10 // total:
            print(f"{done * 100 // total:3d} %  {done} of {total}", file=stream, flush=True)


def report(figures: Figures, outcomes: Sequence[Outcome], *, conditions: str, show_text: bool) -> Iterator[str]:
    """Return the lines of the report; `conditions` says how the answers were got, such as the strategy."""
    yield f"{len(outcomes)} dialogues, {conditions}\n"
    yield f"emotion    {_count(figures.emotion)}   one of the labels that the row accepts"
    yield f"celebrate  {_count(figures.celebrate)}"
    if figures.failed:
        yield f"failed     {figures.failed:>8}  requests, which count as wrong in both"
    if figures.emotion_by_lang:
        yield "\nby language    emotion                celebrate"
        for lang, count in figures.emotion_by_lang.items():
            yield f"  {lang:<11}  {_count(count):<21}  {_count(figures.celebrate_by_lang[lang])}"
    yield from label_table(figures.emotion_confusion, {label: (each.right, each.total) for label, each in figures.emotion_by_label.items()})
    yield from confusion_table(figures.emotion_confusion)
    yield from _celebrations(figures)
    yield from _calibration(figures)
    if figures.latency_ms:
        yield "\nlatency in ms: " + "   ".join(f"{name} {value:.1f}" for name, value in figures.latency_ms.items())
    wrong = [outcome for outcome in outcomes if not (outcome.emotion_right and outcome.celebrate_right)]
    if wrong:
        worst = sorted(wrong, key=lambda outcome: outcome.wrongness, reverse=True)[:_WORST]
        yield f"\nworst mistakes, {len(worst)} of {len(wrong)}: what was answered and how sure of it, what was wanted"
        for outcome in worst:
            yield from _mistake(outcome, show_text)


def _celebrations(figures: Figures) -> Iterator[str]:
    yes = figures.celebrate_yes
    yield f"\ncelebrations: {yes.right} right, {yes.false} false (nothing to celebrate), {yes.missed} missed"
    yield f"  precision {share_text(yes.precision)}   recall {share_text(yes.recall)}"


def _calibration(figures: Figures) -> Iterator[str]:
    yield "\ncalibration: how sure the tagger is of its answers, how many are right, expected calibration error (ECE)"
    for name, found in (("emotion", figures.emotion_calibration), ("celebrate", figures.celebrate_calibration)):
        shares = (found.confidence, found.accuracy, found.expected_error)
        sure, right, error = (share_text(share) for share in shares)
        yield f"  {name:<9}  sure {sure:>6}   right {right:>6}   ECE {error:>6}"
    if not figures.emotion_calibration.count:
        yield "  no answer has a probability"


def _mistake(outcome: Outcome, show_text: bool) -> Iterator[str]:
    row, tag = outcome.row, outcome.tag
    where = f"  line {row.line}" + ("" if row.id is None else f" ({row.id})")
    if tag is None:
        yield f"{where}: request failed"
    else:
        parts = []
        if not outcome.emotion_right:
            parts.append(f"{tag.emotion_name} {tag.confidence:.0%}, wanted {' or '.join(row.emotions)}")
        if not outcome.celebrate_right:
            parts.append(f"celebrate {_yes(tag.celebrate)} {celebrate_confidence(tag):.0%}, wanted {_yes(row.celebrate)}")
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
