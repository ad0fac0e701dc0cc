"""Precision, recall, macro-F1 and confusion counts, against figures worked out by hand."""

import pytest

from pika_tagger._agreement import LabelFigures, celebrations, confusion, true_label

LABELS = ("happy", "calm", "sad", "proud")
ANSWERS = [
    (("happy",), "happy"),
    (("happy",), "happy"),
    (("happy",), "calm"),
    (("happy", "calm"), "calm"),  # acceptable: calm is true
    (("calm", "happy"), "sad"),  # not acceptable: calm, the first, is true
    (("happy",), None),  # failed
]


@pytest.mark.parametrize(
    ("acceptable", "predicted", "expected"),
    [
        (("happy", "calm"), "calm", "calm"),
        (("happy", "calm"), "happy", "happy"),
        (("happy", "calm"), "sad", "happy"),
        (("happy", "calm"), None, "happy"),
    ],
)
def test_an_acceptable_prediction_is_true_and_otherwise_the_first_label(
    acceptable: tuple[str, ...], predicted: str | None, expected: str
) -> None:
    assert true_label(acceptable, predicted) == expected


def test_rows_are_true_and_columns_predicted() -> None:
    counted = confusion(ANSWERS, LABELS)
    assert counted.counts == ((2, 1, 0, 0), (0, 1, 1, 0), (0, 0, 0, 0), (0, 0, 0, 0))
    assert counted.failed == (1, 0, 0, 0)
    assert counted.json() == {
        "labels": ["happy", "calm", "sad", "proud"],
        "true_by_predicted": [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        "failed": [1, 0, 0, 0],
    }


def test_every_label_has_its_precision_recall_and_support() -> None:
    found = {label: figures.json() for label, figures in confusion(ANSWERS, LABELS).by_label().items()}
    assert found == {
        "happy": {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 4},  # the failed one is missed
        "calm": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2},
        "sad": {"precision": 0.0, "recall": None, "f1": 0.0, "support": 0},
        "proud": {"precision": None, "recall": None, "f1": None, "support": 0},
    }


def test_macro_f1_is_the_mean_over_the_labels_that_occur() -> None:
    assert confusion(ANSWERS, LABELS).macro_f1 == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_macro_f1_does_not_weigh_by_support() -> None:
    answers = [(("happy",), "happy")] * 8 + [(("sad",), "happy")] * 2  # happy: precision 0.8, recall 1; sad: never right
    assert confusion(answers, LABELS).macro_f1 == pytest.approx((2 * 0.8 / 1.8 + 0) / 2)


def test_precision_and_recall_are_not_the_same_thing() -> None:
    figures = LabelFigures(right=3, false=1, missed=3)
    assert (figures.precision, figures.recall, figures.support) == (0.75, 0.5, 6)
    assert figures.f1 == pytest.approx(0.6)  # 2 * 0.75 * 0.5 / 1.25


def test_celebrations_are_right_false_or_missed() -> None:
    answers = [(True, True)] * 3 + [(False, True)] + [(True, False)] * 2 + [(False, False)] * 5 + [(True, None), (False, None)]
    assert celebrations(answers).celebrate_json() == {
        "precision": 0.75,
        "recall": 0.5,
        "right_celebrations": 3,
        "false_celebrations": 1,
        "missed_celebrations": 3,
    }


def test_without_any_celebration_there_is_nothing_to_divide_by() -> None:
    figures = celebrations([(False, False), (False, None)])
    assert (figures.precision, figures.recall, figures.false, figures.missed) == (None, None, 0, 0)
