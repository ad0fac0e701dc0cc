"""What other thresholds would have celebrated, and which one the answers reveal."""

import pytest

from pika_tagger._thresholds import STEPS, thresholds

# (to be celebrated, celebrated, probability of yes); celebrated from 0.45 on
ANSWERS = [(True, True, 0.9), (False, True, 0.5), (True, False, 0.4), (False, False, 0.1), (True, None, None)]


def test_every_step_counts_right_false_and_missed_celebrations() -> None:
    by_step = dict(zip(STEPS, thresholds(ANSWERS).figures, strict=True))
    found = {step: (each.right, each.false, each.missed) for step, each in by_step.items()}
    assert found[0.1] == (2, 2, 1)  # a score equal to the threshold is celebrated; the failed request is missed at every step
    assert found[0.15] == (2, 1, 1)
    assert found[0.4] == (2, 1, 1)
    assert found[0.45] == found[0.5] == (1, 1, 2)
    assert found[0.55] == found[0.9] == (1, 0, 2)
    assert found[0.95] == (0, 0, 3)


def test_steps_cover_the_range_evenly() -> None:
    assert STEPS[:3] == (0.05, 0.1, 0.15)
    assert (STEPS[-1], len(STEPS)) == (0.95, 19)


@pytest.mark.parametrize(
    ("answers", "between"),
    [
        (ANSWERS, (0.4, 0.5)),
        (ANSWERS[:2], (0.0, 0.5)),  # all celebrated
        (ANSWERS[2:], (0.4, 1.0)),  # none celebrated
        ([*ANSWERS, (False, False, 0.6)], None),  # no threshold says yes to 0.5 and no to 0.6
        ([(True, None, None)], (0.0, 1.0)),
    ],
)
def test_the_present_threshold_is_enclosed_by_the_answers(
    answers: list[tuple[bool, bool | None, float | None]], between: tuple[float, float] | None
) -> None:
    assert thresholds(answers).present == between


def test_the_report_file_holds_the_steps() -> None:
    found = thresholds(ANSWERS).json()
    assert found["present_threshold_between"] == [0.4, 0.5]
    assert found["steps"][9] == {
        "threshold": 0.5,
        "precision": 0.5,
        "recall": pytest.approx(1 / 3),
        "right_celebrations": 1,
        "false_celebrations": 1,
        "missed_celebrations": 2,
    }


def test_a_threshold_may_be_known() -> None:
    known = thresholds(ANSWERS).at(0.45)
    assert known.present == (0.45, 0.45)
    assert known.figures == thresholds(ANSWERS).figures
