"""Nothing that a child or Pika says can alter the prompt's structure, and nothing of what they say is lost."""

import dataclasses
import json
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from build import settings as presets
from one_pass import CodeTable, Dialogue, InvalidDialogueError, Limits, Prompt, TextCodec
from one_pass.spoken import spoken_form
from tests.support import tokenizers_for_tests
from tests.support.hostile import FRAGMENTS, NULL_LIKE, TEXTS
from tests.support.tokenizers_for_tests import WORD_START

EMBEDDED = "embedded"
KINDS = (*tokenizers_for_tests.KINDS, EMBEDDED)
CODECS = {
    **{kind: tokenizers_for_tests.codec(kind) for kind in tokenizers_for_tests.KINDS},
    EMBEDDED: TextCodec.load(presets.model("pika-tiny").folder / "hf" / "tokenizer.json"),
}
PROMPTS = {
    kind: Prompt(
        tokenizers_for_tests.pika_mood(), codec, tokens_per_block=32, limits=Limits(max_field_bytes=10_000, max_field_tokens=10_000)
    )
    for kind, codec in CODECS.items()
}
HELLO = Dialogue("hello", "hello", "hello")

BARE_TASK = dataclasses.replace(tokenizers_for_tests.pika_mood(), examples=())  # limits apply to examples as well


def around(codec: TextCodec, template: str) -> tuple[list[int], list[int]]:
    before, after = template.split("{text}")
    return codec.encode_template(before), codec.encode_template(after)


@pytest.mark.parametrize("kind", KINDS)
@given(child=TEXTS, pika=TEXTS.filter(str.strip), before=st.none() | TEXTS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_structure_around_the_fields_never_changes(kind: str, child: str, pika: str, before: str | None) -> None:
    prompt = PROMPTS[kind]
    codec, template = prompt.codec, prompt.task.template
    ids = prompt.encode(Dialogue(child, pika, before))
    turn = ids[len(prompt.prefix_ids) :]
    assert ids[: len(prompt.prefix_ids)] == prompt.prefix_ids

    expected = codec.encode_template(template.user)
    spans = []
    for text, frame in ((before, template.pika_last_message), (child, template.user_last_message), (pika, template.pika_response)):
        if text is not None:
            head, tail = around(codec, frame)
            field = codec.encode_dialogue(text)
            spans.append((text, len(expected) + len(head), len(expected) + len(head) + len(field)))
            expected += head + field + tail
    expected += codec.encode_template(template.assistant)
    assert turn == expected

    for text, start, end in spans:
        span = turn[start:end]
        assert codec.marker_ids.isdisjoint(span)
        assert codec.decode(span) == as_decoded(kind, text)
        assert len(codec.decode(span).splitlines()) <= 1  # a field cannot begin a line of the template


@pytest.mark.parametrize("kind", KINDS)
@given(child=TEXTS, pika=TEXTS.filter(str.strip))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_markers_of_a_turn_are_always_the_same(kind: str, child: str, pika: str) -> None:
    prompt = PROMPTS[kind]

    def markers(dialogue: Dialogue) -> list[int]:
        return [i for i in prompt.encode_turn(dialogue) if i in prompt.codec.marker_ids]

    assert markers(Dialogue(child, pika)) == markers(Dialogue("hello", "hello"))
    assert markers(Dialogue(child, pika, child)) == markers(Dialogue("hello", "hello"))


@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXTS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_both_normal_forms_are_the_same_text(kind: str, text: str) -> None:
    codec = PROMPTS[kind].codec
    composed, decomposed = (codec.encode_dialogue(unicodedata.normalize(form, text)) for form in ("NFC", "NFD"))
    assert composed == decomposed == codec.encode_dialogue(text)


@pytest.mark.parametrize("kind", KINDS)
@given(first=TEXTS, child=TEXTS, pika=TEXTS.filter(str.strip))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_prompt_depends_on_its_own_dialogue_only(kind: str, first: str, child: str, pika: str) -> None:
    task, codec = PROMPTS[kind].task, CODECS[kind]
    fresh = Prompt(task, codec, tokens_per_block=32, limits=PROMPTS[kind].limits)
    codes = CodeTable(task, codec).token_ids.tolist()
    hello = fresh.encode(HELLO)
    for dialogue in (Dialogue(first, "ok", first), Dialogue(child, pika)):
        fresh.encode(dialogue).clear()  # what becomes of the ids of one request is nothing to another
        fresh.encode_turn(dialogue).clear()
    assert fresh.encode(HELLO) == hello == PROMPTS[kind].encode(HELLO)
    assert CodeTable(task, codec).token_ids.tolist() == codes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["user_last_message", "pika_last_message", "pika_response"])
def test_a_megabyte_is_refused_without_being_read(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = Prompt(BARE_TASK, CODECS[kind], 32)
    read: list[int] = []
    encode = TextCodec.encode_dialogue

    def seen(codec: TextCodec, text: str) -> list[int]:
        read.append(len(text))
        return encode(codec, text)

    monkeypatch.setattr(TextCodec, "encode_dialogue", seen)
    for fragment in FRAGMENTS:
        text = fragment * (1_000_000 // len(fragment.encode())) + "secret"
        if text.strip():
            with pytest.raises(InvalidDialogueError, match=f"^{name} has [0-9]+ bytes; the limit is 4096$"):
                prompt.encode(dataclasses.replace(HELLO, **{name: text}))
    assert max(read, default=0) <= len("hello")


@pytest.mark.parametrize("kind", KINDS)
def test_what_looks_like_nothing_is_text(kind: str) -> None:
    prompt = PROMPTS[kind]
    turns = {text: tuple(prompt.encode_turn(Dialogue(text, "ok"))) for text in ("", *NULL_LIKE) if not text or spoken_form(text)}
    assert len(set(turns.values())) == len({spoken_form(text) if kind == EMBEDDED else text for text in turns})
    assert prompt.encode_turn(Dialogue("", "ok")) != prompt.encode_turn(Dialogue("", "ok", ""))


def test_what_cannot_be_spelled_without_a_special_token_is_refused_by_the_name_of_the_field() -> None:
    spec = json.loads(tokenizers_for_tests.tokenizer_json("sentence_piece"))
    spec["model"]["byte_fallback"] = False  # then a character outside the vocabulary becomes <unk>
    prompt = Prompt(BARE_TASK, TextCodec(json.dumps(spec)), 32)
    with pytest.raises(InvalidDialogueError) as caught:
        prompt.encode(Dialogue("🦖", "hello"))
    assert str(caught.value) == "user_last_message would put a special token into the prompt; it cannot be tagged"


def test_refusals_never_repeat_what_was_said() -> None:
    prompt = Prompt(BARE_TASK, tokenizers_for_tests.codec("byte_level"), 32, Limits(max_field_bytes=20, max_field_tokens=5))
    for text in ("my secret " * 3, "my secret"):
        with pytest.raises(InvalidDialogueError) as caught:
            prompt.encode(Dialogue(text, "hello"))
        assert "secret" not in str(caught.value)


def as_decoded(kind: str, text: str) -> str:
    """What decoding gives back: NFC in one line; SentencePiece has no other character for its word-start marker than for a space."""
    if kind == EMBEDDED:
        return unicodedata.normalize("NFC", spoken_form(text))
    composed = unicodedata.normalize("NFC", " ".join(text.splitlines()))
    return composed.replace(WORD_START, " ") if kind == "sentence_piece" else composed
