"""From a dialogue to the ids of the prompt.

The prompt is `prefix + turn`. The prefix (instructions, legend, examples) is the same for every request and fills whole KV-cache blocks, so
that an engine with KV-cache reuse never computes it again. Pieces are joined as ids, never as text: no dialogue can change the structure.
"""

from dataclasses import dataclass

from one_pass.task import Dialogue, Task, TaskError
from one_pass.text import TextCodec


class InvalidDialogueError(ValueError):
    """A field of a request cannot be tagged; the message names the field and the limit, never the text."""


@dataclass(frozen=True)
class Limits:
    """How long a field may be. Bytes are checked before tokens, so that a huge text costs nothing."""

    max_field_bytes: int = 4096
    max_field_tokens: int = 192


NO_LIMITS = Limits(max_field_bytes=1 << 16, max_field_tokens=1 << 16)
"""For training and calibration, where no line is refused for its length."""


class Prompt:
    """The prompt of one task for one tokenizer."""

    def __init__(self, task: Task, codec: TextCodec, tokens_per_block: int, limits: Limits | None = None) -> None:
        """Encode everything that does not depend on the dialogue.

        Args:
            task: what is asked.
            codec: the tokenizer of the model that is asked.
            tokens_per_block: size of a KV-cache block of the engine, in tokens.
            limits: how long a field may be.

        Raises:
            TaskError: the padding text is not one token in this tokenizer, or an example breaks the limits.
        """
        self.task = task
        self.codec = codec
        self.limits = limits or Limits()
        template = task.template
        self._user = codec.encode_template(template.user)
        self._fields = {
            name: tuple(codec.encode_template(part) for part in getattr(template, name).split("{text}"))
            for name in ("pika_last_message", "user_last_message", "pika_response")
        }
        self.assistant_ids = codec.encode_template(template.assistant)
        self.prefix_ids = self._encode_prefix(tokens_per_block)

    @property
    def max_turn_tokens(self) -> int:
        """The longest turn that the limits let through, in tokens."""
        frame = len(self._user) + len(self.assistant_ids) + sum(len(ids) for parts in self._fields.values() for ids in parts)
        return frame + 3 * self.limits.max_field_tokens

    @property
    def max_tokens(self) -> int:
        """The longest prompt that the limits let through, in tokens."""
        return len(self.prefix_ids) + self.max_turn_tokens

    def encode_turn(self, dialogue: Dialogue) -> list[int]:
        """Ids of everything after the prefix, up to and including the assistant marker.

        Raises:
            InvalidDialogueError: `pika_response` is blank, or a field is too long.
        """
        if not dialogue.pika_response.strip():
            raise InvalidDialogueError("pika_response is blank: there is nothing to tag")
        ids = list(self._user)
        for name in ("pika_last_message", "user_last_message", "pika_response"):
            text = getattr(dialogue, name)
            if text is not None:
                before, after = self._fields[name]
                ids += before + self._encode_field(name, text) + after
        return ids + self.assistant_ids

    def encode(self, dialogue: Dialogue) -> list[int]:
        """Ids of the whole prompt. Raises as `encode_turn`."""
        return self.prefix_ids + self.encode_turn(dialogue)

    def answer_id(self, answer: str) -> int:
        """Id of a letter as it is spelled in its place, after the assistant marker, which may differ from how it is spelled alone."""
        return self.codec.encode_template(self.task.template.assistant + answer)[-1]

    def answer_ids(self, text: str, after: str = "") -> list[int]:
        """Ids of a part of the answer as it is spelled in its place, after the assistant marker and the text `after`.

        Raises:
            TaskError: the tokenizer joins the two into one token, so that `text` has no ids of its own.
        """
        before = self.codec.encode_template(self.task.template.assistant + after)
        whole = self.codec.encode_template(self.task.template.assistant + after + text)
        if whole[: len(before)] != before:
            raise TaskError(
                f"this tokenizer joins {text!r} with the end of {self.task.template.assistant + after!r} in one token: "
                "choose another name, or a template.assistant and a template.example_end with special tokens"
            )
        return whole[len(before) :]

    def _encode_field(self, name: str, text: str) -> list[int]:
        size_bytes = len(text.encode("utf-8", "surrogatepass"))
        if size_bytes > self.limits.max_field_bytes:
            raise InvalidDialogueError(f"{name} has {size_bytes} bytes; the limit is {self.limits.max_field_bytes}")
        ids = self.codec.encode_dialogue(text)
        if len(ids) > self.limits.max_field_tokens:
            raise InvalidDialogueError(f"{name} has {len(ids)} tokens; the limit is {self.limits.max_field_tokens}")
        if not self.codec.marker_ids.isdisjoint(ids):
            raise InvalidDialogueError(f"{name} would put a special token into the prompt; it cannot be tagged")
        return ids

    def _encode_prefix(self, tokens_per_block: int) -> list[int]:
        task, template = self.task, self.task.template
        legend = "\n".join(f"{label.code} = {label.name}: {label.meaning}" for label in task.labels)
        text = template.prefix.replace("{instructions}", task.instructions.replace("{legend}", legend))
        head, rest = text.split("{padding}")
        before_examples, after_examples = rest.split("{examples}")
        head_ids = self.codec.encode_template(head)
        tail_ids = self.codec.encode_template(before_examples)
        for example in task.examples:
            try:
                tail_ids += self.encode_turn(example.dialogue)
            except InvalidDialogueError as error:
                raise TaskError(f"an example cannot be asked: {error}") from None
            tail_ids.append(self.answer_id(example.answer))
            tail_ids += self.codec.encode_template(template.example_end)
        tail_ids += self.codec.encode_template(after_examples)
        padding_id = self._padding_id()
        missing = -(len(head_ids) + len(tail_ids)) % tokens_per_block
        return head_ids + [padding_id] * missing + tail_ids

    def _padding_id(self) -> int:
        ids = self.codec.encode_template(self.task.template.padding)
        # A tokenizer may set a word-start marker before the text (Phi-3's does); the padding is what follows it.
        if not 1 <= len(ids) <= 2:
            raise TaskError(f"template.padding is {len(ids)} tokens in this tokenizer; choose a text that is one token")
        return ids[-1]
