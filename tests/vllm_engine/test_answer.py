"""What vLLM's tokens are for TensorRT-LLM's clients: end_id is no part of an answer, a stop word is, and neither is passed."""

from answer import Answer
from engine_request import Request


def answer(**values: object) -> Answer:
    return Answer(Request([7, 5], 9, **values), [7, 5], 16)  # type: ignore[arg-type]


def test_tokens_are_added_until_vllm_ends() -> None:
    found = answer()
    found.advance([1], ended=False, reused_tokens=1)
    assert (found.tokens, found.finished, found.reused_tokens) == ([1], False, 1)
    found.advance([2, 3], ended=True, reused_tokens=1)
    assert (found.tokens, found.finished) == ([1, 2, 3], True)


def test_end_id_ends_and_is_left_out() -> None:
    found = answer(end_id=4)
    found.advance([1, 4], ended=True, reused_tokens=0)
    assert (found.tokens, found.finished) == ([1], True)


def test_a_stop_word_ends_is_kept_and_may_begin_in_the_prompt() -> None:
    for words, tokens in ((((2, 3),), [1, 2, 3]), (((5, 1),), [1])):
        found = answer(stop_words=words)
        found.advance([1, 2, 3, 4], ended=False, reused_tokens=0)
        assert (found.tokens, found.finished) == (tokens, True)


def test_times_are_those_of_the_first_and_the_last_token() -> None:
    found = answer()
    found.advance([1], ended=False, reused_tokens=0)
    first = found.first_token_ns
    found.advance([2], ended=True, reused_tokens=0)
    assert found.first_scheduled_ns <= first == found.first_token_ns <= found.last_token_ns
    assert found.last_token_ns > first
