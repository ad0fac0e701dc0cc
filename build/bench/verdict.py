"""What is concluded from a comparison, in sentences with their uncertainty, and as tables. No text of a dialogue is in either."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from build.bench.bootstrap import Estimate
from build.bench.compare import Accuracy, Disagreement, Latency, Verdict
from build.bench.endpoints import Answer
from build.bench.metrics import celebrate_right, emotion_right
from one_pass import FLAG_WORDS

_MOST_LISTED = 200
_DISAGREEMENT_HEADS = ("line", "id", "wanted", "A", "B", "emotion right", "celebrate right")


@dataclass(frozen=True)
class Table:
    """A table of texts."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def lines(self) -> Iterator[str]:
        """Return the table as text."""
        yield self.title
        cells = (self.heads, *self.rows)
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.heads))]
        for row in cells:
            yield ("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()


def sentences(found: Verdict) -> Iterator[str]:
    """Return what the comparison says, the conclusion last."""
    yield f"A is {found.names[0]}, B is {found.names[1]}; {found.dialogues} dialogues. Intervals are 95 %, by bootstrap over the dialogues."
    yield from (_latency_sentence(each) for each in found.latency)
    yield from (_accuracy_sentence(each, found.dialogues) for each in found.accuracy)
    yield f"They give different answers to {len(found.disagreements)} of {found.dialogues} dialogues."
    yield _conclusion(found)
    if not found.in_turn:
        yield (
            "The two were measured one after the other: a machine that was busier during one of them looks like a slower server. "
            "`compare` with two urls asks them in turn."
        )


def tables(found: Verdict) -> Iterator[Table]:
    """Return the figures, and the dialogues on which the two disagree."""
    latency = tuple(
        (f"request latency p{each.percent}, ms", f"{each.a_ms:.2f}", f"{each.b_ms:.2f}", f"A / B = {_range(each.ratio, '.2f')}")
        for each in found.latency
    )
    accuracy = tuple(
        (
            f"{each.field} right",
            f"{each.a:.1%}",
            f"{each.b:.1%}",
            f"B - A = {_points(each.gain)}, {each.only_a} by A only, {each.only_b} by B",
        )
        for each in found.accuracy
    )
    yield Table("Figures", ("", "A", "B", "95 % interval"), (*latency, *accuracy, ("failed requests", *map(str, found.failed), "")))
    listed = found.disagreements[:_MOST_LISTED]
    title = f"Disagreements: {len(found.disagreements)}"
    if len(found.disagreements) > _MOST_LISTED:
        title += f", the first {_MOST_LISTED}"
    yield Table(title, _DISAGREEMENT_HEADS, tuple(map(_disagreement_cells, listed)))


def json_of(found: Verdict) -> dict[str, Any]:
    """Return the comparison as it stands in its file."""
    return {
        "a": found.names[0],
        "b": found.names[1],
        "dialogues": found.dialogues,
        "in_turn": found.in_turn,
        "latency": [asdict(each) for each in found.latency],
        "accuracy": [asdict(each) for each in found.accuracy],
        "failed": dict(zip("ab", found.failed, strict=True)),
        "disagreements": [
            {"line": each.row.line, "id": each.row.id, "wanted": _wanted(each), "a": _said(each.a), "b": _said(each.b)}
            for each in found.disagreements
        ],
        "verdict": list(sentences(found)),
    }


def _latency_sentence(each: Latency) -> str:
    figures = f"{each.a_ms:.1f} ms for A, {each.b_ms:.1f} ms for B"
    if each.ratio.low > 1:
        return f"p{each.percent}: B is quicker, {_range(each.ratio, '.2f')} times as quick ({figures})."
    if each.ratio.high < 1:
        back = Estimate(1 / each.ratio.value, 1 / each.ratio.high, 1 / each.ratio.low)
        return f"p{each.percent}: A is quicker, {_range(back, '.2f')} times as quick ({figures})."
    return f"p{each.percent}: no difference is shown, A / B = {_range(each.ratio, '.2f')} ({figures})."


def _accuracy_sentence(each: Accuracy, dialogues: int) -> str:
    figures = f"{each.a:.1%} for A, {each.b:.1%} for B"
    if each.gain.low > 0:
        return f"{each.field}: B is right more often, by {_points(each.gain)} ({figures})."
    if each.gain.high < 0:
        return f"{each.field}: B is right less often, by {_points(each.gain)} ({figures})."
    if not each.only_a and not each.only_b:
        return (
            f"{each.field}: both are right on the same dialogues ({each.a:.1%}); with {dialogues} of them, a true difference of up to "
            f"{each.gain.high * 100:.1f} points either way would still look like this."
        )
    return f"{each.field}: no difference is shown, {_points(each.gain)} ({figures}). With more dialogues the interval becomes narrower."


def _conclusion(found: Verdict) -> str:
    if any(found.failed):
        return (
            f"Verdict: none. {found.failed[0]} requests of A failed and {found.failed[1]} of B: latencies leave them out, accuracies count "
            "them as wrong. Repeat it when they are gone."
        )
    worse = [each.field for each in found.accuracy if each.gain.high < 0]
    better = [each.field for each in found.accuracy if each.gain.low > 0]
    median = found.latency[0].ratio if found.latency else Estimate(1.0, 1.0, 1.0)
    quicker = "B is quicker" if median.low > 1 else "A is quicker" if median.high < 1 else "neither is shown to be quicker"
    if worse:
        return f"Verdict: {quicker}, and B is less right in {' and '.join(worse)}. That must be mended before B replaces A."
    right = f"B is more right in {' and '.join(better)}" if better else "no loss of accuracy is shown"
    risk = max(-each.gain.low for each in found.accuracy) * 100
    doubt = f"cannot exclude that B loses up to {risk:.1f} points in a field" if risk > 0 else "speak against a loss in either field"
    return f"Verdict: {quicker}, {right}. These dialogues {doubt}."


def _disagreement_cells(each: Disagreement) -> tuple[str, ...]:
    emotion, celebrate = (
        _who(right(each.a, each.row), right(each.b, each.row)) if a != b else "same"
        for right, a, b in (
            (emotion_right, each.a.emotion_name, each.b.emotion_name),
            (celebrate_right, each.a.celebrate, each.b.celebrate),
        )
    )
    number = "" if each.row.id is None else str(each.row.id)
    return (str(each.row.line), number, _wanted(each), _said(each.a), _said(each.b), emotion, celebrate)


def _who(a: bool, b: bool) -> str:
    return {(True, True): "both", (True, False): "A", (False, True): "B", (False, False): "neither"}[a, b]


def _wanted(each: Disagreement) -> str:
    return f"{' or '.join(each.row.emotions)}, {FLAG_WORDS[each.row.celebrate]}"


def _said(answer: Answer) -> str:
    if answer.emotion_name is None or answer.celebrate is None:
        return answer.failure or "not the JSON"
    return f"{answer.emotion_name}, {FLAG_WORDS[answer.celebrate]}"


def _range(estimate: Estimate, form: str) -> str:
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"


def _points(gain: Estimate) -> str:
    value, low, high = (round(each * 100, 1) + 0.0 for each in (gain.value, gain.low, gain.high))  # no -0.0
    return f"{value:+.1f} points ({low:+.1f} to {high:+.1f})"
