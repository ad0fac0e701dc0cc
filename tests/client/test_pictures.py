"""The pictures of an evaluation: what is drawn is what was counted."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread
from matplotlib.patches import Rectangle

from pika_tagger import Tag, _pictures
from pika_tagger._evaluate import Figures, figures_of
from pika_tagger._labelled import Row
from pika_tagger._outcomes import Outcome
from pika_tagger._thresholds import STEPS
from tests.support.fake_triton import LABELS


def outcome(emotions: tuple[str, ...], celebrate: bool, answer: tuple[str, float] | None, yes: float = 0.1) -> Outcome:
    """One row, answered with an emotion and its probability, and with the probability of yes, which is celebrated from 0.4 on."""
    row = Row(1, None, {"user_last_message": "a", "pika_response": "b"}, emotions, celebrate, None)
    if answer is None:
        return Outcome(row, None, "failed")
    label, sure = answer
    scores = {name: sure if name == label else (1 - sure) / 2 for name in ("calm", "happy", "sad")}
    return Outcome(row, Tag(label, yes >= 0.4, scores, yes, 5.0))


OUTCOMES = [
    outcome(("happy",), True, ("happy", 0.75), yes=0.92),
    outcome(("happy",), False, ("happy", 0.95), yes=0.52),
    outcome(("happy",), True, ("calm", 0.85), yes=0.32),
    outcome(("happy",), False, ("happy", 0.75)),
    outcome(("calm",), False, ("calm", 0.78)),
]


@pytest.fixture
def figures() -> Figures:
    return figures_of(OUTCOMES)


def written(axes: Axes) -> dict[tuple[float, float], str]:
    return {(text.get_position()[0], text.get_position()[1]): text.get_text() for text in axes.texts}


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def line(axes: Axes, name: str) -> list[tuple[float, float]]:
    (found,) = [each for each in axes.lines if each.get_label() == name]
    return list(zip(np.asarray(found.get_xdata()).tolist(), np.asarray(found.get_ydata()).tolist(), strict=True))


def test_confusion_has_true_rows_with_counts_and_is_coloured_by_share_of_the_row(figures: Figures) -> None:
    axes = _pictures.confusion_picture(figures, "codes").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["calm", "happy"]  # sad is neither true nor predicted
    assert [label.get_text() for label in axes.get_yticklabels()] == ["calm (1)", "happy (4)"]
    assert written(axes) == {(0, 0): "1", (0, 1): "1", (1, 1): "3"}
    shares = axes.images[0].get_array()
    assert shares is not None
    assert shares.tolist() == [[1.0, 0.0], [0.25, 0.75]]
    assert axes.images[0].get_clim() == (0.0, 1.0)
    assert axes.get_title() == "Emotions, strategy codes\n5 dialogues, accuracy 80.0%, macro-F1 0.762"


def test_numbers_can_be_read_on_dark_and_on_light_cells(figures: Figures) -> None:
    axes = _pictures.confusion_picture(figures, "codes").axes[0]
    assert {text.get_position(): text.get_color() for text in axes.texts} == {(0, 0): "white", (0, 1): "black", (1, 1): "white"}


def test_confusion_shows_failed_requests_in_a_column_of_their_own() -> None:
    axes = _pictures.confusion_picture(figures_of([*OUTCOMES, outcome(("calm",), False, None)]), "codes").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["calm", "happy", "request failed"]
    assert written(axes)[2, 0] == "1"


def test_all_labels_of_the_tagger_fit_into_the_confusion_picture() -> None:
    rows = [Row(1, None, {"user_last_message": "a", "pika_response": "b"}, (label,), False, None) for label in LABELS]
    scores = dict.fromkeys(LABELS, 1 / len(LABELS))
    answered = [Outcome(row, Tag(label, False, scores, 0.1, 5.0)) for row, label in zip(rows, reversed(LABELS), strict=True)] * 250
    picture = _pictures.confusion_picture(figures_of(answered), "codes")
    picture.draw_without_rendering()
    axes = picture.axes[0]
    cell = axes.transData.transform((1, 1)) - axes.transData.transform((0, 0))
    for text in axes.texts:
        assert text.get_text() == "250"
        assert text.get_window_extent().width < abs(cell[0])
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(lower.y1 <= upper.y0 for upper, lower in pairwise(boxes))
    assert all(box.x0 >= 0 for box in boxes)


def test_reliability_shows_both_fields_with_their_error_and_counts(figures: Figures) -> None:
    emotion, celebrate = _pictures.reliability_picture(figures, "codes").axes
    assert emotion.get_title() == "emotion: ECE 32.4%, 5 answers"  # (|2.28 - 3| + |0.85 - 0| + |0.95 - 1|) / 5
    assert [text.get_text() for text in emotion.texts] == ["3", "1", "1"]
    bars = {round(each.get_x() + each.get_width() / 2, 2): each.get_height() for each in emotion.patches if isinstance(each, Rectangle)}
    assert bars == {0.75: 1.0, 0.85: 0.0, 0.95: 1.0}
    points = line(emotion, "at the mean confidence of the bin")
    assert points == [(pytest.approx((0.75 + 0.75 + 0.78) / 3), 1.0), (0.85, 0.0), (0.95, 1.0)]
    assert celebrate.get_title().startswith("celebrate: ECE ")
    assert celebrate.get_title().endswith(", 5 answers")
    assert line(celebrate, "right as often as sure") == [(0, 0), (1, 1)]


def test_reliability_of_answers_without_probabilities_is_empty() -> None:
    emotion, celebrate = _pictures.reliability_picture(figures_of([outcome(("happy",), True, ("happy", 1.0), yes=1.0)]), "json").axes
    assert (emotion.get_title(), celebrate.get_title()) == ("emotion: ECE -, 0 answers", "celebrate: ECE -, 0 answers")
    assert (len(emotion.texts), len(emotion.patches)) == (0, 0)


def test_celebrations_are_drawn_for_every_threshold(figures: Figures) -> None:
    above, below = _pictures.celebrate_picture(figures, "codes").axes
    recall = dict(line(above, "recall"))
    assert list(recall) == list(STEPS)
    assert (recall[0.3], recall[0.35], recall[0.9], recall[0.95]) == (1.0, 0.5, 0.5, 0.0)
    precision = dict(line(above, "precision"))
    assert precision[0.3] == pytest.approx(2 / 3)
    assert np.isnan(precision[0.95])  # nothing would be celebrated
    assert dict(line(below, "false celebrations"))[0.5] == 1
    assert dict(line(below, "missed celebrations"))[0.95] == 2


def test_the_present_threshold_is_marked_as_far_as_the_answers_tell(figures: Figures) -> None:
    for axes in _pictures.celebrate_picture(figures, "codes").axes:
        assert legend(axes)[-1] == "present threshold, between 0.32 and 0.52"


def test_a_threshold_that_is_known_is_a_line(figures: Figures) -> None:
    known = replace(figures, celebrate_thresholds=figures.celebrate_thresholds.at(0.45))
    for axes in _pictures.celebrate_picture(known, "codes").axes:
        assert legend(axes)[-1] == "present threshold, 0.45"
        assert line(axes, "present threshold, 0.45") == [(0.45, 0), (0.45, 1)]


def test_the_title_says_what_is_celebrated_now(figures: Figures) -> None:
    title = _pictures.celebrate_picture(figures, "words").get_suptitle()
    assert "Celebrations, strategy words\n5 dialogues of which 2 are to be celebrated\n" in title
    assert "1 false, 1 missed, precision 50.0%, recall 50.0%" in title


def test_three_files_are_written_and_show_something(figures: Figures, tmp_path: Path) -> None:
    _pictures.write(figures, tmp_path, "codes")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["celebrate.png", "confusion.png", "reliability.png"]
    for path in tmp_path.iterdir():
        pixels = imread(path)
        assert pixels.shape[1] >= 600
        assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 10


def test_equal_figures_give_equal_files(figures: Figures, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
        _pictures.write(figures, folder, "codes")
    for name in ("celebrate.png", "confusion.png", "reliability.png"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
