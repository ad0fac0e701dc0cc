"""How an engine that runs in Python tells how far it is, and to whom. The engines know no Triton, and Triton's side knows no engine."""

from collections.abc import Sequence
from typing import Protocol

from engine_request import Row

CANCELLATION_CHECK_PERIOD_S = 0.1
"""As TensorRT-LLM's backend: `cancellation_check_period_ms` is 100."""
SWITCH_INTERVAL_S = 0.0002
"""How soon Python hands over to a thread that waits. Its own 5 ms would let several steps pass before a request is even seen."""


class Progress(Protocol):
    """A request in progress, as far as it has come."""

    @property
    def vocab_size(self) -> int:
        """How many logits a row has."""

    @property
    def tokens(self) -> Sequence[int]:
        """What is new."""

    @property
    def logits(self) -> Sequence[Row]:
        """One row for each token, if they were asked for: the model's own, before sampling touches them."""

    @property
    def context_logits(self) -> Sequence[Row]:
        """One row for each token of the prompt, if they were asked for."""

    @property
    def log_probs(self) -> Sequence[float]:
        """One for each token, if they were asked for."""

    @property
    def cum_log_prob(self) -> float:
        """Over all that was chosen, `end_id` included."""

    @property
    def reused_tokens(self) -> int:
        """Tokens of the prompt that were still in the KV cache."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""

    @property
    def first_scheduled_ns(self) -> int:
        """When the engine began, of the monotonic clock."""

    @property
    def first_token_ns(self) -> int:
        """When there was a token."""

    @property
    def last_token_ns(self) -> int:
        """When there was the newest."""


class Caller(Protocol):
    """Whoever asked for a generation. All methods are called from the engine's thread."""

    def advanced(self, generation: Progress) -> None:
        """There is a new token, or `generation.finished`."""

    def stopped(self, generation: Progress | None) -> None:
        """Somebody asked to stop it; None if it had not begun."""

    def failed(self, error: Exception) -> None:
        """It will not go on."""

    def gave_up(self) -> bool:
        """Whether nobody waits for it any more."""
