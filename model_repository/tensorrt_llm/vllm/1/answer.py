"""One answer of vLLM, as far as it has come: `progress.Progress` on what its steps give."""

import time
from collections.abc import Iterable

from engine_request import Request, Row, ends_with


class Answer:
    """The answer to a request; made when vLLM is told of it."""

    context_logits: tuple[Row, ...] = ()
    log_probs: tuple[float, ...] = ()
    cum_log_prob = 0.0

    def __init__(self, request: Request, prompt_ids: list[int], vocab_size: int) -> None:
        """Begin with nothing; `prompt_ids` are those that are computed."""
        self.request, self.vocab_size = request, vocab_size
        self._ids = list(prompt_ids)
        self.tokens: list[int] = []
        self.logits: list[Row] = []
        self.reused_tokens = 0
        self.finished = False
        self.first_scheduled_ns = self.first_token_ns = self.last_token_ns = time.monotonic_ns()

    def advance(self, tokens: Iterable[int], ended: bool, reused_tokens: int) -> None:
        """Take new tokens.

        Args:
            tokens: as vLLM chose them; `end_id` may be the last.
            ended: whether vLLM will give no more.
            reused_tokens: of the prompt, which vLLM knows from the first token on.
        """
        self.last_token_ns = time.monotonic_ns()
        if not self.tokens:
            self.first_token_ns = self.last_token_ns
        self.reused_tokens = reused_tokens
        for token in tokens:
            if token == self.request.end_id:
                self.finished = True
                return
            self.tokens.append(token)
            self._ids.append(token)
            if any(ends_with(self._ids, word) for word in self.request.stop_words):
                self.finished = True
                return
        self.finished = ended
