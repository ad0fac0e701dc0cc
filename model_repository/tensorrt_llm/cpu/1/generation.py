"""One generation: what was asked, and how far it has come, one step at a time.

A step is one call of the engine: a piece of the prompt, or one new token. Who steps when is decided in `scheduler`; how a token is chosen,
in `sampling`. Logits of the prompt make it go token by token, because a pass of this engine gives those of its last position only.
"""

import time

from cpu_engine import CpuEngine, KvSequence
from engine_request import Request, Row, ends_with
from sampling import Sampler, log_softmax


class Generation:
    """A request in progress on a sequence of the engine."""

    def __init__(self, request: Request, sequence: KvSequence, engine: CpuEngine) -> None:
        """Begin; nothing is computed yet."""
        self.request, self._sequence = request, sequence
        self.vocab_size = engine.vocab_size
        self._ids = request.known_ids(engine.vocab_size, engine.pad_id)
        self._sampler = Sampler(request.sampling, self._ids, engine.vocab_size)
        self.reused_tokens = 0 if request.wants_context_logits else sequence.shared_tokens(self._ids)
        sequence.rewind(self.reused_tokens)
        self._to_compute = self._ids[self.reused_tokens :]
        self.tokens: list[int] = []
        self.logits: list[Row] = []
        """One row for each token, if they were asked for: the model's own, before sampling touches them."""
        self.context_logits: list[Row] = []
        """One row for each token of the prompt, if they were asked for."""
        self.log_probs: list[float] = []
        """One for each token, if they were asked for."""
        self.cum_log_prob = 0.0
        """Over all that was chosen, `end_id` included."""
        self.finished = False
        self.first_scheduled_ns = self.first_token_ns = self.last_token_ns = time.monotonic_ns()

    def step(self, max_prompt_tokens: int | None = None) -> bool:
        """Call the engine once; with all of the prompt that is left, or with `max_prompt_tokens` of it.

        Returns:
            Whether there is something new: a token, or the end.

        Raises:
            RuntimeError: ONNX Runtime failed.
        """
        piece = self._to_compute[: 1 if self.request.wants_context_logits else max_prompt_tokens]
        self._to_compute = self._to_compute[len(piece) :]
        self._sequence.extend(piece)
        if self.request.wants_context_logits and not self.tokens:
            self.context_logits.append(self._sequence.logits())
        if self._to_compute:
            return False
        self._take(self._sequence.logits())
        return True

    def run(self) -> None:
        """Step to the end. Raises as `step`."""
        while not self.finished:
            self.step()

    def _take(self, logits: Row) -> None:
        request = self.request
        token, scores = self._sampler.choose(logits, self._ids, len(self.tokens))
        self.last_token_ns = time.monotonic_ns()
        if not self.tokens:
            self.first_token_ns = self.last_token_ns
        log_prob = log_softmax(scores, token) if request.wants_log_probs else 0.0
        self.cum_log_prob += log_prob
        if token == request.end_id:
            self.finished = True
            return
        self.tokens.append(token)
        self._ids.append(token)
        self._to_compute = [token]
        if request.wants_logits:
            self.logits.append(logits)
        if request.wants_log_probs:
            self.log_probs.append(log_prob)
        self.finished = len(self.tokens) == request.max_new_tokens or any(ends_with(self._ids, word) for word in request.stop_words)
