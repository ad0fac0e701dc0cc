"""A generation goes step by step, ends where it should, and keeps what was asked for."""

import numpy as np
import pytest

from engine_request import InvalidRequestError, Request, Sampling
from generation import Generation
from tests.support.rule_engine import VOCAB_SIZE, row_after, rule_engine


def finished(request: Request) -> Generation:
    engine = rule_engine()
    generation = Generation(request, engine.new_sequence(), engine)
    generation.run()
    return generation


def test_tokens_are_made_until_there_are_enough() -> None:
    assert finished(Request([3], 4)).tokens == [4, 5, 6, 7]


def test_end_id_ends_the_answer_and_is_no_part_of_it() -> None:
    generation = finished(Request([3], 9, end_id=6, wants_logits=True, wants_log_probs=True))
    assert generation.tokens == [4, 5]
    assert len(generation.logits) == len(generation.log_probs) == 2
    assert generation.cum_log_prob < sum(generation.log_probs)
    assert finished(Request([3], 9, end_id=4)).tokens == []


def test_stop_words_end_the_answer_and_are_part_of_it() -> None:
    assert finished(Request([3], 9, stop_words=((9, 6), (5, 6)))).tokens == [4, 5, 6]


def test_a_bad_word_is_gone_around() -> None:
    assert finished(Request([3], 3, sampling=Sampling(bad_words=((4, 5),)))).tokens == [4, 6, 7]


def test_logits_are_the_models_own_even_if_sampling_changes_them() -> None:
    generation = finished(Request([3], 2, wants_logits=True, sampling=Sampling(bad_words=((4,),))))
    assert generation.tokens == [5, 6]
    np.testing.assert_array_equal(generation.logits, [row_after(3), row_after(5)])


def test_context_logits_are_one_row_for_each_token_of_the_prompt() -> None:
    engine, computed = rule_engine(), list[list[int]]()
    sequence = engine.new_sequence()
    sequence.extend([3, 1])
    engine = rule_engine(computed.append)
    generation = Generation(Request([3, 1, 4], 3, wants_context_logits=True), sequence, engine)
    generation.run()
    np.testing.assert_array_equal(generation.context_logits, [row_after(3), row_after(1), row_after(4)])
    assert (generation.tokens, generation.reused_tokens) == ([5, 6, 7], 0)


def test_a_step_computes_no_more_of_the_prompt_than_it_may() -> None:
    computed: list[list[int]] = []
    engine = rule_engine(computed.append)
    generation = Generation(Request([3, 1, 4, 1, 5], 2), engine.new_sequence(), engine)
    news = [generation.step(2) for _ in range(4)]
    assert computed == [[3, 1], [4, 1], [5], [6]]
    assert news == [False, False, True, True]
    assert generation.finished


def test_what_the_sequence_has_is_not_computed_again() -> None:
    computed: list[list[int]] = []
    engine = rule_engine(computed.append)
    sequence = engine.new_sequence()
    for prompt, expected in (([1, 2, 3], [1, 2, 3]), ([1, 2, 9], [9]), ([1, 2, 9], [9]), ([1, 2, 9, 10, 5], [10, 5])):
        generation = Generation(Request(prompt, 1), sequence, engine)
        generation.run()
        assert computed.pop() == expected
        assert generation.reused_tokens == len(prompt) - len(expected)


def test_ids_that_the_vocabulary_has_not_are_read_as_padding() -> None:
    computed: list[list[int]] = []
    engine = rule_engine(computed.append)
    generation = Generation(Request([2**31 - 1, -(2**31), VOCAB_SIZE, 7], 1), engine.new_sequence(), engine)
    generation.run()
    assert computed == [[0, 0, 0, 7]]
    assert generation.tokens == [8]


def test_log_probs_are_those_of_the_distribution_that_was_drawn_from() -> None:
    generation = finished(Request([3], 2, wants_log_probs=True, sampling=Sampling(temperature=2.0)))
    halved = row_after(3).astype(np.float64) / 2
    assert generation.log_probs[0] == pytest.approx(-np.log(np.exp(halved).sum()), abs=1e-4)
    assert generation.cum_log_prob == pytest.approx(sum(generation.log_probs))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request([], 1), "input_ids is empty"),
        (Request([1], 0), "request_output_len is 0"),
        (Request([1] * 90, 11), "90 input_ids and a request_output_len of 11 exceed the engine's 100 tokens"),
        (Request([1], 1, sampling=Sampling(top_k=-1)), "runtime_top_k"),
    ],
)
def test_impossible_requests_are_refused(request_: Request, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        request_.check(rule_engine(max_tokens=100))
    Request([1] * 90, 10).check(rule_engine(max_tokens=100))
