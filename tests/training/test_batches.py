"""Training batches: every dialogue twice, equal for equal seeds, and each target where it belongs."""

import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from build.training import batches as module
from build.training import noise
from build.training.batches import BEST_EMOTION_SHARE, IGNORE, Batch, Batches, SplittingCodec, shares
from build.training.dialogues import Corpus, Labelled
from build.training.frames import Split
from one_pass import NO_LIMITS, CodeTable, Dialogue, Prompt, TextCodec, json_answer
from tests.support import tokenizers_for_tests

TASK = tokenizers_for_tests.pika_mood()
KINDS = tokenizers_for_tests.KINDS
TEXT = "Dạ, con voi ăn cỏ ạ! I like dinosaurs best"


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(TASK.label_names)


def batches_with(corpus: Corpus, codec: TextCodec, size: int = 24) -> Batches:
    return Batches(corpus, Prompt(TASK, codec, 64, NO_LIMITS), CodeTable(TASK, codec), codec.vocab_size, size)


def some(batches: Batches, seed: int, count: int = 4) -> list[Batch]:
    return list(itertools.islice(batches.stream(seed), count))


def turns(batch: Batch) -> list[list[int]]:
    """Ids of the turns: their end is where the dialogue targets end."""
    return [row[: int((targets != IGNORE).sum()) + 1].tolist() for row, targets in zip(batch.ids, batch.dialogue_targets, strict=True)]


def in_json(batch: Batch) -> torch.Tensor:
    return batch.code_positions < 0


def json_answers(batches: list[Batch], codec: TextCodec) -> Iterator[tuple[str, str, list[int]]]:
    """(forced stem, what is taught after it, ids of the latter) of each JSON answer."""
    for batch in batches:
        for row, turn in enumerate(turns(batch)):
            taught = batch.json_targets[row]
            if (places := (taught != IGNORE).nonzero()[:, 0]).numel():
                stem = batch.ids[row, len(turn) : int(places[0]) + 1].tolist()
                ids = taught[places].tolist()
                yield codec.decode(stem), codec.decode(ids), ids


def test_every_dialogue_is_there_twice(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "disturb", lambda rng, dialogue: dialogue)
    for batch in some(batches_with(corpus, tokenizers_for_tests.codec("byte_level")), 1):
        first, second = turns(batch)[:12], turns(batch)[12:]
        assert first == second
        assert len(set(map(tuple, first))) > 6


def test_twins_have_noise_of_their_own_and_the_same_answer(corpus: Corpus) -> None:
    different = Counter[bool]()
    for batch in some(batches_with(corpus, tokenizers_for_tests.codec("byte_level")), 1):
        different.update(one != other for one, other in zip(turns(batch)[:12], turns(batch)[12:], strict=True))
        assert torch.equal(*batch.code_targets.chunk(2))
        assert torch.equal(*in_json(batch).chunk(2))
    assert different[True] > different[False]


def test_both_kinds_of_answers_occur(corpus: Corpus) -> None:
    asked = torch.cat([in_json(batch)[:12] for batch in some(batches_with(corpus, tokenizers_for_tests.codec("byte_level")), 1, count=20)])
    assert module.JSON_SHARE / 2 < asked.float().mean() < module.JSON_SHARE * 2


def test_equal_seeds_give_equal_batches(corpus: Corpus) -> None:
    batches = batches_with(corpus, tokenizers_for_tests.codec("byte_level"))
    for one, same in zip(some(batches, 5), some(batches, 5), strict=True):
        assert all(torch.equal(tensor, vars(same)[name]) for name, tensor in vars(one).items())
    assert turns(some(batches, 5)[0]) != turns(some(batches, 6)[0])


def test_equal_seeds_give_equal_dialogues_however_they_are_split(corpus: Corpus) -> None:
    codec = SplittingCodec(tokenizers_for_tests.tokenizer_json("byte_level"))
    batches = batches_with(corpus, codec)
    for one, same in zip(some(batches, 5), some(batches, 5), strict=True):
        assert [codec.decode(turn) for turn in turns(one)] == [codec.decode(turn) for turn in turns(same)]
        assert torch.equal(one.code_targets, same.code_targets)
        assert torch.equal(in_json(one), in_json(same))


def test_dialogue_is_split_into_more_pieces_that_say_the_same() -> None:
    text = tokenizers_for_tests.tokenizer_json("byte_level")
    plain, splitting = TextCodec(text), SplittingCodec(text)
    whole, pieces = plain.encode_dialogue(TEXT), [splitting.encode_dialogue(TEXT) for _ in range(20)]
    assert {splitting.decode(ids) for ids in pieces} == {plain.decode(whole)} == {TEXT}
    assert sum(map(len, pieces)) > 20 * len(whole)
    assert len(set(map(tuple, pieces))) > 1


def test_templates_are_never_split() -> None:
    text = tokenizers_for_tests.tokenizer_json("byte_level")
    prompt, splitting = Prompt(TASK, TextCodec(text), 64, NO_LIMITS), SplittingCodec(text)
    for _ in range(5):
        assert splitting.encode_template(TASK.instructions) == prompt.codec.encode_template(TASK.instructions)
        assert Prompt(TASK, splitting, 64, NO_LIMITS).answer_ids('{"') == prompt.answer_ids('{"')


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_turns_and_the_code_comes_after_their_last_token(corpus: Corpus, kind: str) -> None:
    codec, rng = tokenizers_for_tests.codec(kind), random.Random(4)
    prompt, codes = Prompt(TASK, codec, 64, NO_LIMITS), CodeTable(TASK, codec)
    examples = [corpus.sample(rng, "train") for _ in range(8)]
    batch = Batches(corpus, prompt, codes, codec.vocab_size + 11, 8).collate(examples)
    assert batch.code_targets.shape == (8, codec.vocab_size + 11)
    assert (batch.json_targets == IGNORE).all()
    for i, example in enumerate(examples):
        turn = prompt.encode_turn(example.dialogue)
        assert batch.ids[i].tolist() == turn + [0] * (batch.ids.shape[1] - len(turn))
        assert batch.lengths[i] == len(turn)
        assert batch.code_positions[i] == len(turn) - 1
        assert turn[-len(prompt.assistant_ids) :] == prompt.assistant_ids
        assert batch.dialogue_targets[i].tolist() == turn[1:] + [IGNORE] * (batch.ids.shape[1] - len(turn) + 1)
        taught = {TASK.answer_for(emotion, example.celebrate): share for emotion, share in shares(example.emotions).items()}
        nonzero = batch.code_targets[i].nonzero()[:, 0].tolist()
        assert {token: batch.code_targets[i, token].item() for token in nonzero} == pytest.approx(
            {codes.token_for(letter): share for letter, share in taught.items()}
        )


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_taught_after_the_stem_makes_it_the_right_json_and_ends(corpus: Corpus, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JSON_SHARE", 1.0)
    monkeypatch.setattr(corpus, "sample", lambda rng, split, noisy: Labelled(Dialogue("Hi", TEXT), ("sad", "worry"), True, "vi", "tells"))
    codec = tokenizers_for_tests.codec(kind)
    answers = list(json_answers(some(batches_with(corpus, codec), 2), codec))
    assert len(answers) == 4 * 22  # one dialogue and its twin are always answered with a code
    end_ids = codec.encode_template(TASK.template.example_end)
    for stem, rest, ids in answers:
        assert json.loads(stem + rest) == {"emotion_name": "sad", TASK.flag_name: "yes"}
        assert ids[-len(end_ids) :] == end_ids


def test_the_stems_are_those_that_the_server_forces(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JSON_SHARE", 1.0)
    codec = tokenizers_for_tests.codec("byte_level")
    stems = Counter(stem for stem, _, _ in json_answers(some(batches_with(corpus, codec), 3, count=20), codec))
    flag, emotion = f'{{"{TASK.flag_name}": "', '{"emotion_name": "'
    assert stems.keys() == {json_answer.OPENING, flag, emotion}
    share = {stem: count / stems.total() for stem, count in stems.items()}
    assert share[json_answer.OPENING] == pytest.approx(module.BARE_STEM_SHARE, abs=0.08)
    assert share[flag] == pytest.approx(module.FLAG_FIRST_SHARE, abs=0.08)


def test_after_the_bare_stem_the_emotion_comes_first(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JSON_SHARE", 1.0)
    codec = tokenizers_for_tests.codec("byte_level")
    bare = [rest for stem, rest, _ in json_answers(some(batches_with(corpus, codec), 3), codec) if stem == json_answer.OPENING]
    assert bare
    assert all(rest.startswith("emotion_name") for rest in bare)


def test_a_json_answer_has_no_code(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JSON_SHARE", 0.5)
    for batch in some(batches_with(corpus, tokenizers_for_tests.codec("byte_level")), 1):
        coded = ~in_json(batch)
        assert coded.any()
        assert not coded.all()
        torch.testing.assert_close(batch.code_targets.sum(dim=1), coded.float())
        assert torch.equal((batch.json_targets == IGNORE).all(dim=1), coded)


def test_only_the_training_split_is_taught(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, sample = Counter[tuple[str, bool]](), corpus.sample

    def spy(rng: random.Random, split: Split, noisy: bool = True) -> Labelled:
        asked[split, noisy] += 1
        return sample(rng, split, noisy)

    monkeypatch.setattr(corpus, "sample", spy)
    some(batches_with(corpus, tokenizers_for_tests.codec("byte_level")), 1)
    assert asked == {("train", False): 4 * 12}


@pytest.mark.parametrize("emotions", [("sad",), ("sad", "worry"), ("sad", "worry", "calm"), TASK.label_names])
def test_shares_favour_the_best_emotion_and_add_up_to_one(emotions: tuple[str, ...]) -> None:
    taught = shares(emotions)
    assert tuple(taught) == emotions
    assert sum(taught.values()) == pytest.approx(1.0)
    best, *others = taught.values()
    assert best == (BEST_EMOTION_SHARE if others else 1.0)
    assert len(set(others)) <= 1
    assert all(0 < share < best for share in others)
