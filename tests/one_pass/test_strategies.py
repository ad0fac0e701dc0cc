"""What the three strategies have in common, for any task and tokenizer."""

import json
from pathlib import Path

import pytest

from one_pass import STRATEGIES, Dialogue, Prompt, TaskError, make_strategies
from tests.one_pass.test_task import SMALL, load
from tests.support.table_engine import TableEngine

DIALOGUE = Dialogue("2+2=4", "Chính xác!", "2+2?")


def every_way(prompt: Prompt, label: str, flag: bool) -> dict[str, float]:
    """An answer as each strategy may see it."""
    fields = {"emotion_name": label, prompt.task.flag_name: "yes" if flag else "no"}
    code = prompt.task.answer_for(label, flag)
    return {code: 0.5, **{json.dumps(dict(order), ensure_ascii=False): 0.5 for order in (fields.items(), reversed(fields.items()))}}


def test_there_are_three(prompt: Prompt) -> None:
    assert STRATEGIES == ("codes", "words", "json") == tuple(make_strategies(prompt))


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_reads_what_the_model_says_in_its_way(prompt: Prompt, other_prompt: Prompt, name: str) -> None:
    for one in (prompt, other_prompt):
        strategy, ids = make_strategies(one)[name], one.encode(DIALOGUE)
        for label in one.task.label_names:
            for flag in (False, True):
                engine = TableEngine(one, ids, every_way(one, label, flag))
                tag = strategy.tag(ids, engine)
                assert (tag.emotion_name, tag.flag, tag.flag_score) == (label, flag, float(flag))
                assert tag.emotion_scores.tolist() == [float(other == label) for other in one.task.label_names]
                assert max(map(len, engine.asked)) + 1 <= strategy.max_answer_tokens
        assert ids == one.encode(DIALOGUE)  # nobody has written into the prompt


@pytest.mark.parametrize(("name", "n_passes"), [("codes", 1), ("words", 2)])
def test_a_happy_line_costs_the_passes_that_are_documented(prompt: Prompt, name: str, n_passes: int) -> None:
    ids = prompt.encode(DIALOGUE)
    engine = TableEngine(prompt, ids, every_way(prompt, "happy", False))
    make_strategies(prompt)[name].tag(ids, engine)
    assert (len(engine.asked), engine.generated) == (n_passes, [])


@pytest.mark.parametrize("name", ["emotion_name", "", "  "])
def test_a_flag_needs_a_name_of_its_own(tmp_path: Path, name: str) -> None:
    text = SMALL.replace('[flag]\nname = "celebrate"', f'[flag]\nname = "{name}"')
    assert text != SMALL
    with pytest.raises(TaskError, match=f"flag.name is '{name}'; it is a name of its own in a JSON answer beside 'emotion_name'"):
        load(tmp_path, text)
