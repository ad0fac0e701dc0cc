"""The checkpoint before quantization, asked with torch in this process: what AWQ is compared with.

Prompt, codes and threshold are those of the tagger. The prefix is computed once; its keys and values are kept, and each dialogue is put
behind them, as in the engine. On a GPU weights and arithmetic are float16 (7.6 GB of weights for Phi-3-mini), on a CPU float32.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import DynamicCache, Phi3ForCausalLM

from one_pass import AnswerError, CodeTable, Dialogue, InvalidDialogueError, Prompt, Task, TextCodec
from pika_tagger import Tag
from pika_tagger._labelled import Row
from pika_tagger._outcomes import Outcome


class Unquantized:
    """A checkpoint in memory, with its prefix computed."""

    def __init__(self, checkpoint: Path, task: Task, tokens_per_block: int) -> None:
        """Load weights and tokenizer.

        Args:
            checkpoint: a Hugging Face checkpoint of Phi-3's architecture.
            task: what is asked.
            tokens_per_block: as of the engine that is compared: the padding of the prefix depends on it.

        Raises:
            TaskError: task and tokenizer do not fit together.
        """
        on_gpu = torch.cuda.is_available()
        codec = TextCodec.load(checkpoint / "tokenizer.json")
        self._task, self._codes = task, CodeTable(task, codec)
        self._prompt = Prompt(task, codec, tokens_per_block)
        self._device = torch.device("cuda" if on_gpu else "cpu")
        # A place for each tensor from the start: the weights of a large model are never in memory twice.
        self._network = Phi3ForCausalLM.from_pretrained(
            checkpoint, dtype=torch.float16 if on_gpu else torch.float32, device_map={"": self._device}, local_files_only=True
        ).eval()
        self._cache = DynamicCache()
        self._last_logits(self._prompt.prefix_ids)

    @property
    def arithmetic(self) -> str:
        """In which numbers, and where, such as "float32 on cpu"."""
        return f"{str(self._network.dtype).removeprefix('torch.')} on {self._device.type}"

    def outcomes(self, rows: Iterable[Row]) -> Iterator[Outcome]:
        """Tag the rows one after the other; latencies are those of the computation alone. What the tagger would refuse fails here too."""
        for row in rows:
            try:
                yield Outcome(row, self._tag(Dialogue(**row.texts)))
            except (InvalidDialogueError, AnswerError) as error:
                yield Outcome(row, None, f"{type(error).__name__}: {error}")

    def _tag(self, dialogue: Dialogue) -> Tag:
        turn = self._prompt.encode_turn(dialogue)
        started_s = time.perf_counter()
        self._cache.crop(len(self._prompt.prefix_ids))
        answer = self._codes.read(self._last_logits(turn))
        latency_ms = (time.perf_counter() - started_s) * 1000
        scores = dict(zip(self._task.label_names, answer.emotion_scores.tolist(), strict=True))
        return Tag(answer.emotion_name, answer.flag, scores, answer.flag_score, latency_ms)

    @torch.inference_mode()
    def _last_logits(self, ids: list[int]) -> npt.NDArray[np.float32]:
        """Logits [vocab_size] of the token after `ids`, which are added to the cache."""
        found = self._network(
            input_ids=torch.tensor([ids], device=self._device), past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        logits: npt.NDArray[np.float32] = found.logits[0, -1].float().cpu().numpy()
        return logits
