"""Strategy `codes`: both answers from the logits of one token.

Each emotion has a letter, lower case for "no" and upper case for "yes". A letter may have several spellings in a vocabulary, with and
without a leading space marker; their probabilities are added. What is not a code does not count: the softmax runs over codes only.
"""

import numpy as np
import numpy.typing as npt

from one_pass.answer import Engine, Logits, Tag, probabilities
from one_pass.task import Task, TaskError
from one_pass.text import TextCodec

_SPACE_MARKERS = ("", "\u2581", "\u0120")
"""None, SentencePiece's and byte-level BPE's."""


class CodeTable:
    """Which token ids say what, for one task and one tokenizer."""

    max_answer_tokens = 1

    def __init__(self, task: Task, codec: TextCodec) -> None:
        """Find every spelling of every code and prove that none is ambiguous.

        Raises:
            TaskError: a code is not a single token after the assistant marker, or two codes share a token.
        """
        self._task = task
        owner: dict[int, str] = {}
        spellings: list[list[int]] = []
        for answer in task.answers:
            ids = _spellings(answer, task, codec)
            for token_id in ids:
                if token_id in owner:
                    raise TaskError(f"the codes {owner[token_id]!r} and {answer!r} share token {token_id}: give one label another letter")
                owner[token_id] = answer
            spellings.append(ids)
        self.token_ids: npt.NDArray[np.int64] = np.array([i for ids in spellings for i in ids], dtype=np.int64)
        """Ids of all spellings, [n_spellings]."""
        self._answer_of: npt.NDArray[np.int64] = np.array([a for a, ids in enumerate(spellings) for _ in ids], dtype=np.int64)
        self._primary: dict[str, int] = {answer: ids[0] for answer, ids in zip(task.answers, spellings, strict=True)}

    def token_for(self, answer: str) -> int:
        """The id that the letter has right after the assistant marker: what a model is taught to answer."""
        return self._primary[answer]

    def probabilities(self, logits: Logits) -> npt.NDArray[np.float64]:
        """Softmax over the codes.

        Args:
            logits: float [vocab_size], of the first token after the prompt.

        Returns:
            float64 [2, n_labels]: row 0 for "no", row 1 for "yes"; all together sum to 1.

        Raises:
            AnswerError: a logit of a code is not a finite number.
        """
        per_answer = np.bincount(self._answer_of, probabilities(logits[self.token_ids]), minlength=len(self._task.answers))
        return per_answer.reshape(2, -1).astype(np.float64)

    def tag(self, prompt_ids: list[int], engine: Engine) -> Tag:
        """As `answer.Strategy` says, in one pass."""
        return self.read(engine.next_logits(prompt_ids))

    def read(self, logits: Logits) -> Tag:
        """The tag that the logits say. Arguments and errors as `probabilities`."""
        no, yes = self.probabilities(logits)
        scores = no + yes
        flag_score = float(yes.sum())
        return Tag(
            emotion_name=self._task.label_names[int(scores.argmax())],
            flag=flag_score >= self._task.flag_threshold,
            emotion_scores=scores.astype(np.float32),
            flag_score=flag_score,
        )


def _spellings(answer: str, task: Task, codec: TextCodec) -> list[int]:
    marker = task.template.assistant
    context, with_answer = codec.encode_template(marker), codec.encode_template(marker + answer)
    if with_answer[: len(context)] != context or len(with_answer) != len(context) + 1:
        raise TaskError(
            f"the code {answer!r} is not one token after the assistant marker in this tokenizer: choose another letter for its label, "
            "or a template.assistant that ends where a word may begin"
        )
    in_context = with_answer[-1]
    others = (codec.token_id(space + answer) for space in _SPACE_MARKERS)
    return [in_context, *sorted({i for i in others if i is not None and i != in_context})]
