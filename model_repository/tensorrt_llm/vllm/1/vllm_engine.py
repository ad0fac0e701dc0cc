"""vLLM in this process, behind the values of `engine_request`, without any Triton in it.

`LLMEngine` is stepped by whoever calls `step`, always the same thread. Requests join and leave between steps; all that are under way are
computed together. What vLLM does otherwise than TensorRT-LLM is refused in `check`, by the name of the tensor. The names and the meaning of
settings and parameters are those of vLLM 0.24.
"""

import gc
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

os.environ.update(
    {
        # One process, one thread: no queue between Triton's request and the GPU.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # The other model runner has no custom logits processors.
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        # On a GPU of Hopper's kind or newer vLLM takes FlashInfer's sampler without looking whether it is installed; here it is not.
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        # Nothing is told to anyone, nothing is looked for elsewhere.
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
    }
)
# vLLM reads the variables while it is imported.
from vllm import EngineArgs, LLMEngine, SamplingParams
from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind

from answer import Answer
from engine_request import InvalidRequestError, Request, Sampling
from raw_logits import RawLogits

_HOTTEST = 2.0
"""vLLM refuses higher temperatures."""
_SEEDS = 2**63
"""vLLM's generators take seeds below this."""
_GRAPH_SIZES = [1, 2, 4, *range(8, 257, 8), *range(288, 1025, 32)]
"""Tokens of a step for which a CUDA graph is kept; a step is padded to the next. One tag is some 35 to 100 tokens, a few together are
hundreds; vLLM's own choice ends at twice the number of requests."""
_PAD_ID = 0
_WARM_UP_TOKENS = (96, 64, 64)
"""Prompts of warm-up requests; the second and third share a beginning with the first."""


@dataclass(frozen=True)
class EngineSettings:
    """What vLLM is given of the target, under vLLM's names."""

    block_size: int
    """Tokens of a KV-cache block."""
    max_model_len: int
    """The longest prompt and answer together."""
    max_num_seqs: int
    """How many requests are computed together."""
    max_num_batched_tokens: int
    """How many tokens a step computes at most."""
    gpu_memory_utilization: float
    """Share of the whole GPU's memory that vLLM may take, its weights and KV cache included."""

    @classmethod
    def read(cls, texts: Mapping[str, str]) -> "EngineSettings":
        """From the parameters of a config.pbtxt, all of them text."""
        return cls(
            block_size=int(texts["block_size"]),
            max_model_len=int(texts["max_model_len"]),
            max_num_seqs=int(texts["max_num_seqs"]),
            max_num_batched_tokens=int(texts["max_num_batched_tokens"]),
            gpu_memory_utilization=float(texts["gpu_memory_utilization"]),
        )


class VllmEngine:
    """The weights, once, and all requests that are under way. Not thread-safe."""

    def __init__(self, folder: Path, settings: EngineSettings) -> None:
        """Load an AWQ checkpoint and compute a few tokens.

        Args:
            folder: what `doit quantize` made; vLLM reads AutoAWQ's tensors itself.
            settings: of the target.

        Raises:
            Exception: whatever vLLM raises, for want of memory for instance.
        """
        logits = RawLogits.for_engine()
        self._copied = logits.copied
        arguments = EngineArgs(
            model=str(folder),
            skip_tokenizer_init=True,
            generation_config="vllm",
            **vars(settings),
            enable_prefix_caching=True,
            # Nothing is longer than the window, so that it changes nothing but how the KV cache is kept.
            disable_sliding_window=True,
            # A step is one graph, whatever is in it: the processor need not start it layer by layer. This kernel can be in one on any GPU.
            compilation_config={"cudagraph_capture_sizes": _GRAPH_SIZES, "cudagraph_mode": "FULL"},
            attention_backend="TRITON_ATTN",
            logits_processors=[logits],
            disable_log_stats=True,
        )
        self._llm = LLMEngine.from_engine_args(arguments)
        self.max_tokens: int = self._llm.model_config.max_model_len
        self.vocab_size: int = self._llm.model_config.get_vocab_size()
        self._answers: dict[str, Answer] = {}
        self._n_begun = 0
        self._warm_up()
        # Everything loaded so far lives as long as the process; the collector need not look at it between steps.
        gc.collect()
        gc.freeze()

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not self._answers

    def check(self, request: Request) -> None:
        """Whether vLLM does what a request asks as TensorRT-LLM would.

        Raises:
            InvalidRequestError: it does not; the message names the tensor and says what to do.
        """
        sampling = request.sampling
        for name, asked, fix in (
            ("return_context_logits", request.wants_context_logits, "leave it out"),
            ("return_log_probs", request.wants_log_probs, "leave it out"),
            ("bad_words_list", bool(sampling.bad_words), "leave it out"),
            ("embedding_bias", sampling.bias is not None and bool(sampling.bias.any()), "leave it out, or give zeros"),
            ("presence_penalty", sampling.presence_penalty != 0, "leave it out, or give 0"),
            ("frequency_penalty", sampling.frequency_penalty != 0, "leave it out, or give 0"),
        ):
            if asked:
                raise InvalidRequestError(f"{name} is not served by target vllm as TensorRT-LLM serves it: {fix}")
        if request.wants_logits and (request.max_new_tokens != 1 or sampling.min_tokens > 0):
            raise InvalidRequestError(
                f"return_generation_logits is served by target vllm with a request_output_len of 1, not {request.max_new_tokens}, "
                "and without min_tokens"
            )
        if not sampling.greedy and sampling.temperature > _HOTTEST:
            raise InvalidRequestError(f"temperature is {sampling.temperature:g}; target vllm takes at most {_HOTTEST:g}")

    def begin(self, request: Request) -> Answer:
        """Let a request join the next step.

        Raises:
            ValueError: vLLM does not take it.
        """
        self._n_begun += 1
        name = str(self._n_begun)
        prompt_ids = request.known_ids(self.vocab_size, _PAD_ID)
        answer = Answer(request, prompt_ids, self.vocab_size)
        self._llm.add_request(name, tokens_input(prompt_ids), _parameters(request, name))
        self._answers[name] = answer
        return answer

    def step(self) -> list[Answer]:
        """Compute the next tokens of what is under way.

        Returns:
            The answers that have come further. Those that are finished are forgotten here.

        Raises:
            Exception: whatever vLLM raises. Nothing is known of what was under way then; `leave` it all.
        """
        advanced = []
        for output in self._llm.step():
            name = output.request_id
            if (answer := self._answers.get(name)) is None:
                continue
            (completion,) = output.outputs
            answer.advance(completion.token_ids, output.finished, output.num_cached_tokens or 0)
            if answer.finished:
                if answer.request.wants_logits:
                    answer.logits = [self._copied[name].wait()][: len(answer.tokens)]
                self._forget(name, at_vllm_too=not output.finished)
            advanced.append(answer)
        return advanced

    def leave(self, answer: Answer) -> None:
        """Compute no more of an answer; it may be finished."""
        for name, other in self._answers.items():
            if other is answer:
                self._forget(name, at_vllm_too=True)
                return

    def close(self) -> None:
        """Give the GPU back."""
        self._llm.engine_core.shutdown()

    def _forget(self, name: str, at_vllm_too: bool) -> None:
        if at_vllm_too:
            self._llm.abort_request([name])
        del self._answers[name]
        self._copied.pop(name, None)

    def _warm_up(self) -> None:
        for n_tokens in _WARM_UP_TOKENS:
            ids = [1 + i % (self.vocab_size - 1) for i in range(min(n_tokens, self.max_tokens - 1))]
            self.begin(Request(ids, 1, wants_logits=True))
            while not self.idle:
                self.step()


def _parameters(request: Request, name: str) -> SamplingParams:
    sampling = request.sampling
    return SamplingParams(
        **({"temperature": 0.0} if sampling.greedy else dict(_random(sampling))),
        repetition_penalty=sampling.repetition_penalty,
        max_tokens=request.max_new_tokens,
        min_tokens=min(sampling.min_tokens, request.max_new_tokens),
        stop_token_ids=[request.end_id] if request.end_id >= 0 else [],
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        extra_args=RawLogits.asked_by(name) if request.wants_logits else None,
        skip_clone=True,
    )


def _random(sampling: Sampling) -> Iterator[tuple[str, float | int]]:
    yield "temperature", sampling.temperature
    yield "top_k", sampling.top_k
    yield "top_p", sampling.top_p if sampling.top_p > 0 else 1.0
    yield "seed", sampling.seed % _SEEDS
