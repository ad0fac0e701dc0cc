"""The real task file, and every way in which one can be wrong."""

import re
from pathlib import Path

import pytest

from build import settings
from one_pass import Dialogue, Task, TaskError

LABELS = {
    "happy": "h",
    "calm": "c",
    "excited": "e",
    "playful": "p",
    "encouraging": "n",
    "curious": "q",
    "surprised": "w",
    "proud": "d",
    "sad": "s",
    "thats_right": "r",
    "worry": "o",
    "thinking": "t",
    "celebration": "b",
}

SMALL = """
name = "small"
version = 3

[flag]
name = "celebrate"
threshold = 0.25

[[labels]]
name = "happy"
code = "h"
meaning = "glad"

[[labels]]
name = "sad"
code = "s"
meaning = "sorry"

[prompt]
instructions = "Choose: {legend}"

[[prompt.examples]]
user_last_message = "1+1=2"
pika_response = "Right!"
answer = "H"

[template]
prefix = "<|system|>{instructions}{padding}{examples}"
padding = "."
example_end = "<|end|>"
user = "<|user|>"
pika_last_message = "Before:{text};"
user_last_message = "Child:{text};"
pika_response = "Pika:{text}"
assistant = "<|assistant|>"
"""


def load(folder: Path, text: str) -> Task:
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return Task.load(path)


def test_pika_mood_has_the_labels_of_the_design_in_its_order(task: Task) -> None:
    assert {label.name: label.code for label in task.labels} == LABELS
    assert task.label_names == tuple(LABELS)
    assert (task.name, task.flag_name) == ("pika_mood", "celebrate")
    assert all(label.meaning for label in task.labels)


def test_every_task_file_of_the_repository_can_be_loaded() -> None:
    paths = sorted(settings.TASKS.glob("*.toml"))
    assert [Task.load(path).name for path in paths] == [path.stem for path in paths] != []


def test_answers_are_the_codes_in_lower_then_in_upper_case(task: Task) -> None:
    codes = list(LABELS.values())
    assert task.answers == (*codes, *(code.upper() for code in codes))


@pytest.mark.parametrize(("label", "code"), LABELS.items())
def test_the_case_of_an_answer_says_the_flag(task: Task, label: str, code: str) -> None:
    assert (task.answer_for(label, False), task.answer_for(label, True)) == (code, code.upper())


def test_an_unknown_label_has_no_answer(task: Task) -> None:
    with pytest.raises(TaskError, match="'angry' is not a label of task pika_mood; its labels are happy, calm, excited"):
        task.answer_for("angry", False)


def test_the_examples_show_a_celebration_and_a_confirmation_that_is_none(task: Task) -> None:
    answers = [example.answer for example in task.examples]
    assert set(answers) <= set(task.answers)
    assert any(answer.isupper() for answer in answers)
    assert any(answer.islower() for answer in answers)


def test_fields_come_from_the_file(tmp_path: Path) -> None:
    task = load(tmp_path, SMALL)
    assert (task.name, task.version, task.flag_threshold) == ("small", 3, 0.25)
    assert [(example.dialogue, example.answer) for example in task.examples] == [(Dialogue("1+1=2", "Right!", None), "H")]
    assert task.template.pika_response == "Pika:{text}"


def test_examples_may_be_left_out(tmp_path: Path) -> None:
    head, rest = SMALL.split("[[prompt.examples]]")
    assert load(tmp_path, head + rest[rest.index("[template]") :]).examples == ()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=re.escape(f"there is no task file {tmp_path / 'none.toml'}")):
        Task.load(tmp_path / "none.toml")


def label(name: str, code: str) -> str:
    return f'[[labels]]\nname = "{name}"\ncode = "{code}"\nmeaning = ""\n\n'


SAD = label("sad", "s").replace('meaning = ""', 'meaning = "sorry"')


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "small"', "name = ", "is not valid TOML: "),
        ("version = 3", "", "lacks the field 'version'"),
        ("threshold = 0.25", "", "lacks the field 'threshold'"),
        ('answer = "H"', "", "lacks the field 'answer'"),
        ('meaning = "glad"', "", "has a field of the wrong form: "),
        ('meaning = "glad"', 'meaning = "glad"\ncolour = "red"', "has a field of the wrong form: "),
        ('padding = "."', "", "has a field of the wrong form: "),
        ('code = "h"', "code = 5", "has a field of the wrong form: "),
        ("threshold = 0.25", 'threshold = "high"', "could not convert string to float: 'high'"),
        (SAD, "", "1 labels: one letter each allows 2 to 26"),
        (SAD, "".join(label(f"label {i}", "x") for i in range(26)), "27 labels: one letter each allows 2 to 26"),
        ('code = "h"', 'code = "H"', "label 'happy' has the code 'H'; a code is one letter from a to z"),
        ('code = "h"', 'code = "hi"', "label 'happy' has the code 'hi'; a code is one letter"),
        ('code = "h"', 'code = ""', "label 'happy' has the code ''; a code is one letter"),
        ('code = "h"', 'code = "é"', "label 'happy' has the code 'é'; a code is one letter"),
        ('code = "h"', 'code = "1"', "label 'happy' has the code '1'; a code is one letter"),
        ('name = "sad"', 'name = "happy"', "two labels share the name 'happy': give one of them another"),
        ('code = "s"', 'code = "h"', "two labels share the code 'h': give one of them another"),
        ("threshold = 0.25", "threshold = 0.0", "flag.threshold is 0.0; it is a probability between 0 and 1"),
        ("threshold = 0.25", "threshold = 1", "flag.threshold is 1.0; it is a probability"),
        ("threshold = 0.25", "threshold = nan", "flag.threshold is nan; it is a probability"),
        ('answer = "H"', 'answer = "X"', "an example has the answer 'X', which is not a code of any label"),
        ("{legend}", "", "prompt.instructions has the placeholders []; it needs exactly ['legend']"),
        ("{legend}", "{legend} {name}", "prompt.instructions has the placeholders ['legend', 'name']"),
        ("{legend}", "{legend} {", "'{'"),
        ("{padding}", "", "template.prefix has the placeholders ['examples', 'instructions']; it needs exactly"),
        ("Before:{text}", "Before:", "template.pika_last_message has the placeholders []; it needs exactly ['text']"),
        ("Child:{text}", "Child:{words}", "template.user_last_message has the placeholders ['words']; it needs exactly ['text']"),
        ("Pika:{text}", "Pika:{text}{name}", "template.pika_response has the placeholders ['name', 'text']; it needs exactly ['text']"),
        ("Pika:{text}", "Pika:{text}{text}", "template.pika_response has the placeholders ['text', 'text']; it needs exactly ['text']"),
    ],
)
def test_refusals_name_the_file_the_entry_and_the_rule(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in SMALL
    with pytest.raises(TaskError, match=re.escape(words)) as caught:
        load(tmp_path, SMALL.replace(old, new))
    assert str(tmp_path / "small.toml") in str(caught.value)


def test_text_in_place_of_a_table_is_refused(tmp_path: Path) -> None:
    head, rest = SMALL.split("[prompt]")
    with pytest.raises(TaskError, match="wrong form"):
        load(tmp_path, 'prompt = "Choose"\n' + head + rest[rest.index("[template]") :])
