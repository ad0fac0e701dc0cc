"""The tables of labels in the report."""

from pika_tagger._agreement import confusion
from pika_tagger._tables import WIDTH, confusion_table, label_table, short_names
from tests.support.fake_triton import LABELS

ANSWERS = [(("happy", "calm"), "calm"), (("happy",), "calm"), (("happy",), None)]


def test_the_confusion_table_has_true_rows_and_a_column_for_failures() -> None:
    assert list(confusion_table(confusion(ANSWERS, ("sad", "happy", "calm")))) == [
        "\nconfusion: rows true, columns predicted, - request failed",
        "        happy  calm     -",
        "  happy     .     1     1",
        "  calm      .     1     .",
    ]


def test_without_failures_there_is_no_column_for_them() -> None:
    assert list(confusion_table(confusion(ANSWERS[:2], ("happy", "calm")))) == [
        "\nconfusion: rows true, columns predicted",
        "        happy  calm",
        "  happy     .     1",
        "  calm      .     1",
    ]


def test_all_labels_fit_the_width_under_different_names() -> None:
    answers = [((label,), predicted) for label in LABELS for predicted in (*LABELS, None)] * 9999
    lines = list(confusion_table(confusion(answers, LABELS)))
    assert len(lines) == 2 + len(LABELS)
    assert all(len(line) <= WIDTH for line in lines)
    assert len({len(line) for line in lines[1:]}) == 1
    assert len(set(lines[1].split())) == len(LABELS) + 1
    assert lines[2].split() == ["happy"] + ["9999"] * 14


def test_labels_that_do_not_fit_are_left_to_the_report_file() -> None:
    labels = [f"label{number}" for number in range(40)]
    (line,) = confusion_table(confusion([((label,), label) for label in labels], labels))
    assert "see the report file" in line


def test_labels_with_the_same_beginning_get_numbers() -> None:
    assert short_names(["celebration", "celebrity", "celebrate", "calm"], 5) == ["celeb", "cele2", "cele3", "calm"]


def test_the_table_of_labels_leaves_out_those_that_do_not_occur() -> None:
    title, _, *lines = label_table(confusion(ANSWERS, ("sad", "happy", "calm")), {"happy": (1, 3)})
    assert "macro-F1 0.3333" in title  # happy 0, calm 2 / 3
    assert [line.split() for line in lines] == [
        ["happy", "-", "0.0%", "0.0%", "2", "1", "/", "3"],
        ["calm", "50.0%", "100.0%", "66.7%", "1", "0", "/", "0"],
    ]


def test_a_label_that_is_named_but_never_answered_keeps_its_line() -> None:
    *_, line = label_table(confusion([(("sad", "calm"), "calm")], ("calm", "sad")), {"sad": (1, 1)})
    assert line.split() == ["sad", "-", "-", "-", "0", "1", "/", "1"]
