"""The tagger over gRPC, asked through the client library as a robot would ask, except that nobody gives up at the budget."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from build.bench.endpoints import Answer
from pika_tagger import Dialogue, TaggerClient
from pika_tagger._labelled import Labelled, Row
from pika_tagger._outcomes import first_answer
from pika_tagger._server_split import Split, splits

_MOST_AT_ONCE = 4096
"""A benchmark may have more requests under way than a robot; they must reach the server, and not be refused by the client."""


class TaggerEndpoint:
    """A tagger that answers, and how it is asked."""

    def __init__(self, url: str, strategy: str | None, timeout_s: float, metadata: Mapping[str, str] | None = None) -> None:
        """Connect, and get a first answer.

        Args:
            url: HOST:PORT.
            strategy: codes, words or json; None leaves it to the server.
            timeout_s: Deadline of one call.
            metadata: Sent with each call. Without the server's key in it there are no statistics.

        Raises:
            TaggerError: nobody answers, or not in this way.
        """
        self._tagger = TaggerClient(url, budget_ms=math.inf, timeout_s=timeout_s, metadata=metadata, max_unanswered=_MOST_AT_ONCE)
        try:
            first_answer(self._tagger, strategy)
            self._info = self._tagger.server_info()
        except BaseException:
            self.close()
            raise
        self._url, self._strategy = url, strategy or self._info.strategy

    @property
    def about(self) -> dict[str, Any]:
        """As `Endpoint` says."""
        name = f"tagger, strategy {self._strategy or 'as the server is set'}"
        told = {**asdict(self._info), "labels": ", ".join(self._info.labels), "strategy": self._strategy}
        return {"name": name, "url": self._url, "kind": "tagger", **told}

    def check(self, labelled: Labelled) -> None:
        """As `Endpoint` says."""
        labelled.check_labels(self._info.labels)

    def ask(self, row: Row, due_s: float) -> Answer:
        """As `Endpoint` says."""
        tag = self._tagger.tag(**cast(Dialogue, row.texts), strategy=self._strategy, budget_ms=math.inf, on_failure="fallback")
        latency_ms = (time.monotonic() - due_s) * 1000
        if tag.fallback:
            return Answer(latency_ms, tag.fallback_reason, row.line, due_s)
        tokens = 1 if self._strategy == "codes" else None
        return Answer(latency_ms, None, row.line, due_s, (), tokens, tag.emotion_name, tag.celebrate)

    def splits(self) -> dict[str, Split]:
        """As `Endpoint` says."""
        return splits(self._tagger)

    def close(self) -> None:
        """As `Endpoint` says."""
        self._tagger.close()
