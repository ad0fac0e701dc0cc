"""Each parameter does what TensorRT-LLM's does, in its order."""

import numpy as np
import pytest

from engine_request import InvalidRequestError, Row, Sampling, ends_with
from sampling import BANNED, Sampler, log_softmax

LOGITS = np.log(np.array([0.4, 0.3, 0.2, 0.1], dtype=np.float32))


def scores(sampling: Sampling, ids: list[int], logits: Row = LOGITS, n_new: int = 0) -> Row:
    return Sampler(sampling, ids, logits.size).choose(logits, ids, n_new)[1]


def drawn(sampling: Sampling, n: int = 2000) -> list[float]:
    sampler = Sampler(sampling, [], LOGITS.size)
    found = np.bincount([sampler.choose(LOGITS, [], 0)[0] for _ in range(n)], minlength=LOGITS.size)
    return list(found / n)


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(top_k=1, top_p=0.9), Sampling(temperature=5), Sampling(top_p=-1), Sampling(seed=9)]
)
def test_nothing_is_drawn_unless_top_k_or_top_p_say_so(sampling: Sampling) -> None:
    assert drawn(sampling, 20) == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(top_p=1.0), [0.4, 0.3, 0.2, 0.1]),
        (Sampling(top_k=2), [4 / 7, 3 / 7, 0, 0]),
        (Sampling(top_k=3, top_p=1.0), [4 / 9, 3 / 9, 2 / 9, 0]),
        (Sampling(top_p=0.5), [4 / 7, 3 / 7, 0, 0]),
        (Sampling(top_p=0.39), [1, 0, 0, 0]),
        (Sampling(top_k=2, top_p=0.5), [1, 0, 0, 0]),  # of the two that are left the first has 4/7
        (Sampling(top_p=1.0, temperature=0.5), [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        (Sampling(top_p=1.0, temperature=0.0), [1, 0, 0, 0]),
        (Sampling(top_k=100), [0.4, 0.3, 0.2, 0.1]),
    ],
)
def test_tokens_are_drawn_with_their_probabilities(sampling: Sampling, expected: list[float]) -> None:
    found = drawn(sampling)
    assert found == pytest.approx(expected, abs=0.05)
    assert [share == 0 for share in found] == [share == 0 for share in expected]


def test_a_seed_gives_the_same_tokens_and_another_one_others() -> None:
    def tokens(seed: int) -> list[int]:
        sampler = Sampler(Sampling(top_p=1.0, seed=seed), [], 4)
        return [sampler.choose(LOGITS, [], 0)[0] for _ in range(30)]

    assert tokens(2**64 - 1) == tokens(2**64 - 1)
    assert tokens(1) != tokens(2)


def test_penalties_count_the_prompt_and_what_was_chosen() -> None:
    logits = np.array([2.0, -2.0, 1.0, 0.5], dtype=np.float32)
    np.testing.assert_allclose(scores(Sampling(repetition_penalty=2), [0, 1], logits), [1, -4, 1, 0.5])
    np.testing.assert_allclose(scores(Sampling(presence_penalty=0.5), [0, 0, 1], logits), [1.5, -2.5, 1, 0.5])
    np.testing.assert_allclose(scores(Sampling(frequency_penalty=0.5), [0, 0, 1], logits), [1, -2.5, 1, 0.5])
    np.testing.assert_allclose(
        scores(Sampling(temperature=2, repetition_penalty=2, presence_penalty=1), [0], logits), [-0.5, -1, 0.5, 0.25], atol=1e-5
    )
    sampler = Sampler(Sampling(frequency_penalty=0.75), [], 4)
    assert [sampler.choose(logits, [], 0)[0] for _ in range(4)] == [0, 0, 2, 0]


def test_bias_comes_before_temperature_and_may_be_shorter_than_the_logits() -> None:
    bias = np.array([1.0, 0.0], dtype=np.float32)
    np.testing.assert_allclose(scores(Sampling(bias=bias, temperature=2), []), (LOGITS + np.eye(4)[0]) / 2, atol=1e-5)


def test_bad_words_are_banned_where_they_would_be_completed() -> None:
    sampling = Sampling(bad_words=((0,), (3, 1), (9,)))
    assert scores(sampling, [5, 3]).tolist() == [BANNED, BANNED, LOGITS[2], LOGITS[3]]
    assert scores(sampling, [3, 5]).tolist() == [BANNED, *LOGITS[1:].tolist()]
    assert LOGITS.max() < 0  # and the caller's logits are as they were


def test_the_end_is_not_chosen_before_min_tokens() -> None:
    sampling = Sampling(min_tokens=2, end_id=0)
    assert [Sampler(sampling, [], 4).choose(LOGITS, [], n)[0] for n in range(3)] == [1, 1, 0]
    assert Sampler(Sampling(min_tokens=2, end_id=-1), [], 4).choose(LOGITS, [], 0)[0] == 0


def test_everything_banned_is_no_crash() -> None:
    sampling = Sampling(bad_words=((0,), (1,), (2,), (3,)), top_p=0.9)
    assert Sampler(sampling, [], 4).choose(LOGITS, [], 0)[0] in range(4)


@pytest.mark.parametrize(
    ("sampling", "tensor"),
    [
        (Sampling(temperature=-1), "temperature is -1"),
        (Sampling(temperature=float("nan")), "temperature is nan"),
        (Sampling(top_k=-1), "runtime_top_k"),
        (Sampling(top_p=1.5), "runtime_top_p"),
        (Sampling(top_p=float("nan")), "runtime_top_p"),
        (Sampling(repetition_penalty=0), "repetition_penalty"),
        (Sampling(presence_penalty=float("inf")), "presence_penalty"),
        (Sampling(frequency_penalty=float("nan")), "frequency_penalty"),
        (Sampling(min_tokens=-1), "min_tokens"),
        (Sampling(bias=np.zeros(5, dtype=np.float32)), "embedding_bias has 5 values; give at most 4"),
        (Sampling(bias=np.array([np.nan], dtype=np.float32)), "embedding_bias"),
    ],
)
def test_impossible_values_are_refused_by_tensor(sampling: Sampling, tensor: str) -> None:
    with pytest.raises(InvalidRequestError, match=tensor):
        sampling.check(4)


def test_log_softmax_is_the_logarithm_of_the_probability() -> None:
    assert log_softmax(LOGITS + np.float32(5), 2) == pytest.approx(np.log(0.2), abs=1e-6)


def test_a_sequence_ends_with_a_word() -> None:
    assert ends_with([1, 2, 3], [2, 3])
    assert ends_with([1], [])
    assert not ends_with([3], [2, 3])
    assert not ends_with([2, 3, 1], [2, 3])
