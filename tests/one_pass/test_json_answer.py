"""JSON written by the model itself: what is forced, where it ends, and how strictly it is read."""

import json

import numpy as np
import pytest

from one_pass import AnswerError, Dialogue, Prompt
from one_pass.answer import Logits
from one_pass.json_answer import JsonAnswer
from tests.support.table_engine import TableEngine

DIALOGUE = Dialogue("2+2=4", "Chính xác!")


class Scribe:
    """An engine that writes a given text after what was forced, whatever it was asked."""

    def __init__(self, prompt: Prompt, text: str) -> None:
        assert text.startswith('{"')
        self._ids = prompt.answer_ids(text)[len(prompt.answer_ids('{"')) :]

    def next_logits(self, ids: list[int]) -> Logits:
        raise AssertionError("the strategy json reads no logits")

    def generate(self, ids: list[int], max_new_tokens: int, end_id: int) -> list[int]:
        return self._ids


def texts(prompt: Prompt, label: str, flag: str) -> list[str]:
    """The same answer in both orders, and with other white space."""
    answer = {"emotion_name": label, prompt.task.flag_name: flag}
    turned = dict(reversed(answer.items()))
    return [
        json.dumps(answer, ensure_ascii=False),
        json.dumps(turned, ensure_ascii=False),
        json.dumps(answer, separators=(",", ":")),
        json.dumps(answer, ensure_ascii=False).replace("{", '{"', 1).replace('""', '"', 1).replace("}", "\n}\n"),
    ]


def test_both_fields_are_read_in_any_order_and_spacing(prompt: Prompt, other_prompt: Prompt) -> None:
    for one in (prompt, other_prompt):
        strategy = JsonAnswer(one)
        for label in one.task.label_names:
            for flag in ("no", "yes"):
                for text in texts(one, label, flag):
                    tag = strategy.tag(one.encode(DIALOGUE), Scribe(one, text))
                    assert (tag.emotion_name, tag.flag, tag.flag_score) == (label, flag == "yes", float(flag == "yes"))
                    assert tag.emotion_scores.tolist() == [float(name == label) for name in one.task.label_names]
                    assert tag.emotion_scores.dtype == np.float32


def test_the_opening_is_forced_and_the_rest_is_generated_up_to_the_end_marker(prompt: Prompt) -> None:
    text = '{"emotion_name": "thats_right", "celebrate": "yes"}'
    engine = TableEngine(prompt, prompt.encode(DIALOGUE), {text: 0.6, "R": 0.9, text.replace("yes", "no"): 0.4})
    tag = JsonAnswer(prompt).tag(prompt.encode(DIALOGUE), engine)
    assert (tag.emotion_name, tag.flag) == ("thats_right", True)
    assert engine.asked[0] == prompt.answer_ids('{"')
    assert engine.asked[-1] == prompt.answer_ids(text)
    assert engine.generated[1:] == prompt.codec.encode_template("<|end|>")


def test_the_longest_answer_has_room_and_nothing_is_generated_for_ever(prompt: Prompt, other_prompt: Prompt) -> None:
    for one in (prompt, other_prompt):
        strategy, end = JsonAnswer(one), one.task.template.example_end
        longest = 0
        for label in one.task.label_names:
            for text in texts(one, label, "yes")[:2]:
                engine = TableEngine(one, one.encode(DIALOGUE), {text: 1.0})
                assert strategy.tag(one.encode(DIALOGUE), engine).emotion_name == label
                longest = max(longest, len(one.answer_ids(text + end)))
                assert engine.generated[0] + len(one.answer_ids('{"')) == strategy.max_answer_tokens
        assert longest < strategy.max_answer_tokens < 2 * longest


REFUSED = {
    "cut off": '{"emotion_name": "proud", "celebrate": "ye',
    "text after it": '{"emotion_name": "proud", "celebrate": "yes"} I hope this helps',
    "text in place of it": '{"h',
    "one field": '{"emotion_name": "proud"}',
    "the other field": '{"celebrate": "yes"}',
    "a third field": '{"emotion_name": "proud", "celebrate": "yes", "confidence": 1}',
    "a field twice": '{"emotion_name": "proud", "celebrate": "yes", "celebrate": "yes"}',
    "a field twice in place of the other": '{"celebrate": "no", "celebrate": "yes"}',
    "another name": '{"emotion": "proud", "celebrate": "yes"}',
    "a name in capitals": '{"Emotion_name": "proud", "celebrate": "yes"}',
    "an unknown label": '{"emotion_name": "jealous", "celebrate": "yes"}',
    "a label in capitals": '{"emotion_name": "Proud", "celebrate": "yes"}',
    "a label with spaces": '{"emotion_name": " proud", "celebrate": "yes"}',
    "part of a label": '{"emotion_name": "prou", "celebrate": "yes"}',
    "a code": '{"emotion_name": "d", "celebrate": "yes"}',
    "no label": '{"emotion_name": null, "celebrate": "yes"}',
    "two labels": '{"emotion_name": ["proud", "happy"], "celebrate": "yes"}',
    "values exchanged": '{"emotion_name": "yes", "celebrate": "proud"}',
    "a truth value": '{"emotion_name": "proud", "celebrate": true}',
    "a number": '{"emotion_name": "proud", "celebrate": 1}',
    "an undecided flag": '{"emotion_name": "proud", "celebrate": "maybe"}',
    "an object": '{"emotion_name": "proud", "celebrate": {"celebrate": "yes"}}',
    "two objects": '{"emotion_name": "proud", "celebrate": "yes"}{"emotion_name": "proud", "celebrate": "yes"}',
    "single quotes": "{\"emotion_name\": 'proud', \"celebrate\": 'yes'}",
    "a marker in a value": '{"emotion_name": "<|user|>proud", "celebrate": "yes"}',
    "a marker after it": '{"emotion_name": "proud", "celebrate": "yes"}<|assistant|>',
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_refused_without_repeating_it(prompt: Prompt, text: str) -> None:
    with pytest.raises(AnswerError) as caught:
        JsonAnswer(prompt).tag(prompt.encode(DIALOGUE), Scribe(prompt, text))
    assert str(caught.value) == (
        "the model did not answer with the JSON that was asked for: ask with strategy codes or words, which always have an answer"
    )
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_an_answer_that_does_not_end_is_refused(prompt: Prompt) -> None:
    engine = TableEngine(prompt, prompt.encode(DIALOGUE), {'{"emotion_name": "' + "proud" * 50: 1.0})
    strategy = JsonAnswer(prompt)
    with pytest.raises(AnswerError, match="the model did not answer with the JSON"):
        strategy.tag(prompt.encode(DIALOGUE), engine)
    assert len(engine.asked[-1]) + 1 == strategy.max_answer_tokens
