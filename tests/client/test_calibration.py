"""Expected calibration error and its bins, against figures worked out by hand."""

import pytest

from pika_tagger._calibration import calibration


def test_the_error_is_weighted_by_the_size_of_the_bins() -> None:
    found = calibration([(0.95, True), (0.97, True), (0.93, False), (0.55, True)])
    assert found.expected_error == pytest.approx(0.75 * (0.95 - 2 / 3) + 0.25 * (1 - 0.55))


def test_too_much_and_too_little_confidence_do_not_cancel_out_between_bins() -> None:
    assert calibration([(0.75, False), (0.25, True)]).expected_error == pytest.approx(0.75)


def test_within_a_bin_only_the_means_count() -> None:
    assert calibration([(0.5, True), (0.5, False)]).expected_error == 0.0


def test_bins_tell_their_limits_count_confidence_and_accuracy() -> None:
    bins = calibration([(0.25, True), (0.27, False), (0.29, False), (0.23, False)]).json()["bins"]
    assert [(each["low"], each["high"]) for each in bins] == [(index / 10, (index + 1) / 10) for index in range(10)]
    assert [each["count"] for each in bins] == [0, 0, 4, 0, 0, 0, 0, 0, 0, 0]
    assert bins[2] == {"low": 0.2, "high": 0.3, "count": 4, "confidence": pytest.approx(0.26), "accuracy": 0.25}
    assert (bins[0]["confidence"], bins[0]["accuracy"]) == (None, None)


@pytest.mark.parametrize(
    ("confidence", "index"), [(0.0, 0), (0.0999, 0), (0.1, 1), (0.5, 5), (0.9, 9), (1.0, 9), (1.0000001, 9), (-1e-7, 0)]
)
def test_every_confidence_has_a_bin(confidence: float, index: int) -> None:
    assert [each.count for each in calibration([(confidence, True)]).bins] == [int(index == position) for position in range(10)]


def test_over_all_bins_there_are_a_mean_confidence_and_an_accuracy() -> None:
    found = calibration([(0.95, True), (0.85, True), (0.3, False), (0.5, True)]).json()
    assert (found["confidence"], found["accuracy"]) == (pytest.approx(0.65), 0.75)


def test_without_answers_there_is_no_error() -> None:
    found = calibration([]).json()
    assert (found["expected_calibration_error"], found["confidence"], found["accuracy"]) == (None, None, None)
