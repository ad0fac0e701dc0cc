"""Text to ids, twice: templates with their markers, and dialogue without.

Trusted text (the task file) may contain special tokens; what a child or Pika says may not. So there are two tokenizers from the same
`tokenizer.json`: the whole one, and one whose added tokens have been taken out, which therefore cannot produce a marker whatever it reads.
"""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from one_pass.spoken import spoken_form
from one_pass.task import TaskError

DIALOGUE_FORM = "dialogue_form"
"""A field of our own in `tokenizer_config.json`: in which form a checkpoint was trained to read dialogue."""
SPOKEN, WRITTEN = "spoken", "written"


class TextCodec:
    """Encodes template text and dialogue text with one `tokenizer.json`."""

    def __init__(self, tokenizer_json: str, dialogue_form: str = WRITTEN) -> None:
        """Build both tokenizers.

        Args:
            tokenizer_json: content of a `tokenizer.json` as the `tokenizers` library writes it.
            dialogue_form: WRITTEN to read dialogue as it is, SPOKEN to reduce it to `spoken_form` first.

        Raises:
            TaskError: the content cannot be read as a tokenizer, or there is no such form.
        """
        if dialogue_form not in (WRITTEN, SPOKEN):
            raise TaskError(f"tokenizer_config.json asks for the {DIALOGUE_FORM} {dialogue_form!r}; it is {WRITTEN!r} or {SPOKEN!r}")
        self.dialogue_form = dialogue_form
        try:
            spec: dict[str, Any] = json.loads(tokenizer_json)
            self._with_markers = Tokenizer.from_str(tokenizer_json)
            self._plain = Tokenizer.from_str(json.dumps({**spec, "added_tokens": [], "post_processor": None}))
        except Exception as error:  # the library raises bare Exception
            raise TaskError(f"the tokenizer cannot be read: {error}") from error
        for tokenizer in (self._with_markers, self._plain):
            tokenizer.no_padding()
            tokenizer.no_truncation()
        self.marker_ids = frozenset(int(token["id"]) for token in spec["added_tokens"])
        """Ids of all added tokens: none of them may ever come out of dialogue text."""
        self.vocab_size: int = self._with_markers.get_vocab_size(with_added_tokens=True)

    @classmethod
    def load(cls, path: Path) -> "TextCodec":
        """Read a `tokenizer.json` file, and the form of dialogue from the `tokenizer_config.json` beside it, if there is one.

        Raises:
            TaskError: it is missing or not a tokenizer, or the file beside it is damaged.
        """
        try:
            return cls(path.read_text(encoding="utf-8"), _form_asked_for(path.with_name("tokenizer_config.json")))
        except FileNotFoundError:
            raise TaskError(f"there is no tokenizer at {path}") from None

    def encode_template(self, text: str) -> list[int]:
        """Ids of trusted text; markers in it become special tokens. Nothing is added at either end."""
        ids: list[int] = self._with_markers.encode(text, add_special_tokens=False).ids
        return ids

    def encode_dialogue(self, text: str) -> list[int]:
        """Ids of untrusted text; markers in it stay the characters they are.

        Line breaks become spaces, because lines are the template's: a child must not be able to begin one with "Pika:". The text is brought
        to Unicode NFC: Vietnamese letters typed with combining accents mean the same as composed ones; or to its spoken form.
        """
        one_line = spoken_form(text) if self.dialogue_form == SPOKEN else unicodedata.normalize("NFC", " ".join(text.splitlines()))
        ids: list[int] = self._plain.encode(one_line, add_special_tokens=False).ids
        return ids

    def token_id(self, token: str) -> int | None:
        """Id of a token by its exact spelling in the vocabulary, or None."""
        found: int | None = self._with_markers.token_to_id(token)
        return found

    def spelling(self, token_id: int) -> str | None:
        """Exact spelling of an id in the vocabulary, or None if there is no such id."""
        found: str | None = self._with_markers.id_to_token(token_id)
        return found

    def decode(self, ids: Sequence[int], with_markers: bool = False) -> str:
        """Text of ids, markers left out or spelled out."""
        text: str = self._with_markers.decode(list(ids), skip_special_tokens=not with_markers)
        return text


def _form_asked_for(settings: Path) -> str:
    if not settings.is_file():
        return WRITTEN
    try:
        form: str = json.loads(settings.read_text(encoding="utf-8")).get(DIALOGUE_FORM, WRITTEN)
    except (ValueError, AttributeError) as error:
        raise TaskError(f"{settings} is not a JSON object: {error}") from None
    return form
