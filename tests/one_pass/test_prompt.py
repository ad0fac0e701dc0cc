"""The prompt: a fixed prefix in whole blocks, a turn that follows it, and limits on what people say."""

import dataclasses
import re
import unicodedata

import pytest

from one_pass import CodeTable, Dialogue, InvalidDialogueError, Limits, Prompt, Task, TaskError, TextCodec
from tests.support import tokenizers_for_tests

DIALOGUE = Dialogue("2+2=4", "Chính xác! Cậu giỏi quá!", "2 cộng 2 bằng mấy?")
FIELDS = ("pika_last_message", "user_last_message", "pika_response")
SHORT = Dialogue("", "a", "")
LONG = "\x01\x02\x03\x04\x05"  # in no vocabulary: a token for each byte


@pytest.fixture(scope="module")
def bare_task(task: Task) -> Task:
    """Without examples, to which the limits apply as well."""
    return dataclasses.replace(task, examples=())


def ids_in_order(codec: TextCodec, ids: list[int], *markers: str) -> list[str]:
    names = {codec.encode_template(marker)[0]: marker for marker in markers}
    return [names[i] for i in ids if i in names]


@pytest.mark.parametrize("tokens_per_block", [1, 7, 16, 32, 64, 128])
def test_the_prefix_is_a_whole_number_of_blocks(task: Task, codec: TextCodec, tokens_per_block: int) -> None:
    bare = Prompt(task, codec, tokens_per_block=1).prefix_ids
    padded = Prompt(task, codec, tokens_per_block).prefix_ids
    missing = len(padded) - len(bare)
    assert len(padded) % tokens_per_block == 0
    assert 0 <= missing < tokens_per_block
    # What fills it up stands at the end of the instructions, and is the padding text.
    start = bare.index(codec.encode_template("<|end|>")[0])
    padding = codec.encode_template(task.template.padding)[-1]
    assert padded == bare[:start] + [padding] * missing + bare[start:]


def test_the_prefix_says_the_instructions_the_legend_and_the_examples(task: Task, codec: TextCodec, prompt: Prompt) -> None:
    text = codec.decode(prompt.prefix_ids)
    assert "Pika is a robot that talks with children" in text
    for label in task.labels:
        assert f"{label.code} = {label.name}: {label.meaning}" in text
    for example in task.examples:
        assert example.dialogue.pika_response in text
    assert not re.search(r"\{\w+\}", text)


def test_examples_are_whole_turns_of_a_chat_with_their_answers(task: Task, codec: TextCodec, prompt: Prompt) -> None:
    ids, codes = prompt.prefix_ids, CodeTable(task, codec)
    turn = ["<|user|>", "<|end|>", "<|assistant|>", "<|end|>"]
    found = ids_in_order(codec, ids, "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
    assert found == ["<|system|>", "<|end|>", *turn * len(task.examples)]
    (assistant,) = codec.encode_template("<|assistant|>")
    answers = [ids[i + 1] for i, token in enumerate(ids) if token == assistant]
    assert answers == [codes.token_for(example.answer) for example in task.examples]


def test_an_example_reads_exactly_as_a_request(task: Task, codec: TextCodec, prompt: Prompt) -> None:
    text = ",".join(map(str, prompt.prefix_ids))
    for example in task.examples:
        assert ",".join(map(str, prompt.encode_turn(example.dialogue))) in text


def test_the_prefix_is_the_same_for_every_dialogue_and_the_turn_follows_it(prompt: Prompt) -> None:
    prefix = list(prompt.prefix_ids)
    for dialogue in (DIALOGUE, Dialogue("", "Ơ!"), Dialogue("x" * 50, "y", "")):
        ids = prompt.encode(dialogue)
        assert ids[: len(prefix)] == prefix
        assert ids[len(prefix) :] == prompt.encode_turn(dialogue)
        ids.clear()  # what a caller does with the result is its own business
    assert prompt.prefix_ids == prefix


def test_the_same_dialogue_always_gives_the_same_ids(task: Task, codec: TextCodec, prompt: Prompt) -> None:
    assert prompt.encode(DIALOGUE) == prompt.encode(DIALOGUE) == Prompt(task, codec, 32).encode(DIALOGUE)


def test_a_turn_shows_the_fields_in_the_order_in_which_they_were_said(codec: TextCodec, prompt: Prompt) -> None:
    lines = codec.decode(prompt.encode_turn(DIALOGUE)).split("\n")
    assert [line.strip().replace(": ", ":") for line in lines if line.strip()] == [
        "Before:2 cộng 2 bằng mấy?",
        "Child:2+2=4",
        "Pika:Chính xác! Cậu giỏi quá!",
    ]


def test_a_turn_ends_where_the_answer_begins(codec: TextCodec, prompt: Prompt) -> None:
    assert prompt.encode_turn(DIALOGUE)[-2:] == codec.encode_template("<|end|><|assistant|>") == prompt.assistant_ids


def test_what_pika_had_said_before_is_optional(codec: TextCodec, prompt: Prompt) -> None:
    without = prompt.encode_turn(dataclasses.replace(DIALOGUE, pika_last_message=None))
    empty = prompt.encode_turn(dataclasses.replace(DIALOGUE, pika_last_message=""))
    assert "Before" not in codec.decode(without)
    assert "Before" in codec.decode(empty)


def test_the_child_may_have_been_silent(codec: TextCodec, prompt: Prompt) -> None:
    assert "Child:\n" in codec.decode(prompt.encode_turn(Dialogue("", "Con ơi?"))).replace("Child: \n", "Child:\n")


@pytest.mark.parametrize("blank", ["", " ", "\n\t ", "\u3000\u00a0"])
def test_a_blank_response_is_refused(prompt: Prompt, blank: str) -> None:
    with pytest.raises(InvalidDialogueError, match=r"^pika_response is blank: there is nothing to tag$"):
        prompt.encode(Dialogue("hello", blank))


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(("text", "size"), [("a" * 41, 41), ("ạ" * 14, 42), ("🦖" * 11, 44)])
def test_a_field_of_too_many_bytes_is_refused_by_name_and_limit(
    bare_task: Task, codec: TextCodec, field: str, text: str, size: int
) -> None:
    # It has too many tokens as well, but bytes come first: they cost nothing to count.
    prompt = Prompt(bare_task, codec, 32, Limits(max_field_bytes=40, max_field_tokens=2))
    with pytest.raises(InvalidDialogueError) as caught:
        prompt.encode(dataclasses.replace(SHORT, **{field: text}))
    assert str(caught.value) == f"{field} has {size} bytes; the limit is 40"


def test_a_field_may_have_as_many_bytes_as_the_limit(bare_task: Task, codec: TextCodec) -> None:
    assert Prompt(bare_task, codec, 32, Limits(max_field_bytes=39)).encode(Dialogue("ạ" * 13, "a"))


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_too_many_tokens_is_refused_by_name_and_limit(bare_task: Task, codec: TextCodec, field: str) -> None:
    n_tokens = len(codec.encode_dialogue(LONG))
    dialogue = dataclasses.replace(SHORT, **{field: LONG})
    assert Prompt(bare_task, codec, 32, Limits(max_field_tokens=n_tokens)).encode(dialogue)
    with pytest.raises(InvalidDialogueError) as caught:
        Prompt(bare_task, codec, 32, Limits(max_field_tokens=n_tokens - 1)).encode(dialogue)
    assert str(caught.value) == f"{field} has {n_tokens} tokens; the limit is {n_tokens - 1}"


def test_an_example_that_breaks_the_limits_is_the_fault_of_the_task_file(task: Task, codec: TextCodec) -> None:
    with pytest.raises(TaskError, match=r"an example cannot be asked: pika_last_message has 35 bytes; the limit is 20"):
        Prompt(task, codec, 32, Limits(max_field_bytes=20))


def test_a_field_may_have_4096_bytes_and_192_tokens_unless_told_otherwise(prompt: Prompt) -> None:
    assert (prompt.limits.max_field_bytes, prompt.limits.max_field_tokens) == (4096, 192)
    with pytest.raises(InvalidDialogueError, match="user_last_message has 4097 bytes; the limit is 4096"):
        prompt.encode(Dialogue("a" * 4097, "hello"))


def test_the_longest_dialogue_has_exactly_the_tokens_that_are_announced(bare_task: Task, codec: TextCodec) -> None:
    prompt = Prompt(bare_task, codec, 32, Limits(max_field_tokens=len(codec.encode_dialogue(LONG))))
    assert len(prompt.encode(Dialogue(LONG, LONG, LONG))) == prompt.max_tokens
    assert len(prompt.encode_turn(Dialogue(LONG, LONG, LONG))) == prompt.max_turn_tokens
    assert prompt.max_tokens == len(prompt.prefix_ids) + prompt.max_turn_tokens


def test_combining_accents_and_composed_letters_give_the_same_prompt(prompt: Prompt) -> None:
    texts = ("Dạ bằng bốn ạ", "Đúng rồi, cậu giỏi quá!", "Hai cộng hai bằng mấy nhỉ?")
    composed, combining = (Dialogue(*(unicodedata.normalize(form, text) for text in texts)) for form in ("NFC", "NFD"))
    assert composed != combining
    assert prompt.encode(composed) == prompt.encode(combining)


def test_a_padding_of_several_tokens_is_refused(task: Task, codec: TextCodec) -> None:
    odd = dataclasses.replace(task, template=dataclasses.replace(task.template, padding="\x01\x02\x03"))
    with pytest.raises(TaskError, match=r"template.padding is [34] tokens in this tokenizer; choose a text that is one token"):
        Prompt(odd, codec, 32)


def test_tokenizers_of_both_kinds_are_really_different() -> None:
    first, second = (tokenizers_for_tests.codec(kind) for kind in tokenizers_for_tests.KINDS)
    assert len(first.encode_template("\n")) == 1
    assert len(second.encode_template("\n")) == 2
