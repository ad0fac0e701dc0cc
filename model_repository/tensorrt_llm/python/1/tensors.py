"""The tensors of TensorRT-LLM's Triton backend 1.0.0, read and written, without any Triton in it.

Every input of the contract is either read here, refused by name because no engine of ours in Python can do it, or without meaning for a
decoder that keeps one beam. Which is which is said in docs/tensorrt_llm_model.md; a test goes through all of them. What one engine can do
and another cannot, that engine refuses itself.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from engine_request import InvalidRequestError, Limits, Request, Sampling, Words
from progress import Progress

Arrays = Mapping[str, npt.NDArray[Any]]
"""Tensors by name, with a batch dimension of 1."""

_LOOKAHEAD = ("window_size", "ngram_size", "verification_set_size")
NOT_SERVED = {
    **dict.fromkeys(
        ("encoder_input_features", "encoder_output_lengths", "cross_attention_mask", "skip_cross_attn_blocks"), "models with an encoder"
    ),
    **dict.fromkeys(
        ("draft_input_ids", "draft_logits", "draft_acceptance_threshold", *(f"lookahead_{what}" for what in _LOOKAHEAD)),
        "speculative decoding",
    ),
    **dict.fromkeys(
        ("prompt_embedding_table", "prompt_table_extra_ids", "prompt_vocab_size", "mrope_rotary_cos_sin", "mrope_position_deltas"),
        "prompt tuning and multimodal input",
    ),
    **dict.fromkeys(("lora_task_id", "lora_weights", "lora_config"), "LoRA"),
    **dict.fromkeys(("guided_decoding_guide_type", "guided_decoding_guide"), "guided decoding"),
    "context_phase_params": "disaggregated serving",
}
"""Inputs that change the answer in a way that this engine cannot, with what they are for."""
ONLY = {"beam_width": 1, "num_return_sequences": 1, "runtime_top_p_decay": 1.0}
"""Inputs that are served with one value."""
WITHOUT_MEANING = frozenset(
    {"decoder_input_ids", "decoder_input_lengths", "pad_id", "len_penalty", "early_stopping", "beam_search_diversity_rate"}
    | {"runtime_top_p_min", "runtime_top_p_reset_ids"}
    | {f"retention_token_range_{what}" for what in ("starts", "ends", "priorities", "durations_ms")}
    | {"retention_decode_priority", "retention_decode_duration_ms"}
)
"""Inputs that TensorRT-LLM does not look at either where there is one beam, no encoder and a top-p that does not decay; and hints what to
keep in the KV cache, which has nothing to evict here."""
REQUIRED_OUTPUTS = ("output_ids", "sequence_length")


@dataclass(frozen=True)
class Asked:
    """A request as it came, and what is to be said about it."""

    request: Request
    outputs: frozenset[str]
    """Names of the outputs that the client wants."""
    exclude_input: bool
    streaming: bool
    wants_perf_metrics: bool
    wants_num_input_tokens: bool
    wants_num_output_tokens: bool
    arrival_ns: int = field(default_factory=time.monotonic_ns)

    @property
    def urgent(self) -> bool:
        """Whether it is what a tag asks: one token, for its logits."""
        request = self.request
        return request.max_new_tokens == 1 and request.wants_logits and not request.wants_context_logits


def asks_to_stop(inputs: Arrays) -> bool:
    """Whether this is a request to stop another one."""
    return bool(_scalar(inputs, "stop", False))


def read(inputs: Arrays, outputs: Sequence[str], engine: Limits, decoupled: bool) -> Asked:
    """Read a request.

    Args:
        inputs: the tensors that were sent.
        outputs: names of the outputs that are wanted.
        engine: that will serve it.
        decoupled: whether the model may send more than one response.

    Raises:
        InvalidRequestError: it cannot be served; the message names the tensor and says what to do.
    """
    _refuse(inputs, outputs)
    end_id = int(_scalar(inputs, "end_id", -1))
    input_ids = inputs.get("input_ids", np.zeros(0, dtype=np.int32)).reshape(-1)
    n_input = int(_scalar(inputs, "input_lengths", input_ids.size))
    if not 0 <= n_input <= input_ids.size:
        raise InvalidRequestError(f"input_lengths is {n_input}, but input_ids has {input_ids.size} values")
    streaming = bool(_scalar(inputs, "streaming", False))
    if streaming and not decoupled:
        raise InvalidRequestError("streaming is only served by a decoupled model: assemble it with `doit decoupled=yes model_repository`")
    request = Request(
        prompt_ids=input_ids[:n_input].tolist(),
        max_new_tokens=int(_scalar(inputs, "request_output_len", 0)),
        end_id=end_id,
        stop_words=_words(inputs, "stop_words_list"),
        sampling=_sampling(inputs, end_id),
        wants_logits=_asked_for("generation_logits", inputs, outputs),
        wants_log_probs=bool(_scalar(inputs, "return_log_probs", False)),
        wants_context_logits=_asked_for("context_logits", inputs, outputs),
    )
    request.check(engine)
    return Asked(
        request,
        frozenset(outputs),
        exclude_input=bool(_scalar(inputs, "exclude_input_in_output", False)),
        streaming=streaming,
        wants_perf_metrics=bool(_scalar(inputs, "return_perf_metrics", False)),
        wants_num_input_tokens=bool(_scalar(inputs, "return_num_input_tokens", False)),
        wants_num_output_tokens=bool(_scalar(inputs, "return_num_output_tokens", False)),
    )


def write(asked: Asked, generation: Progress, n_sent: int, tokens_per_block: int) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a response, in the order of NVIDIA's backend; only those that were both asked for by a flag and named.

    Args:
        asked: the request.
        generation: as far as it has come.
        n_sent: how many new tokens earlier responses have had; 0 unless it is streamed.
        tokens_per_block: size of the KV-cache blocks that are counted.

    Returns:
        output_ids INT32 [1, 1, n], sequence_length INT32 [1, 1]; if asked for context_logits FP32 [1, n_prompt, vocab_size],
        generation_logits FP32 [1, 1, n_new, vocab_size], output_log_probs FP32 [1, 1, n_new], cum_log_probs FP32 [1, 1], and the counts and
        times [1, 1]. Streamed, everything but sums and counts is about the new tokens only, context_logits come with the first response and
        the metrics with the last.
    """
    request, streaming = asked.request, asked.streaming
    shown = generation.tokens[n_sent:] if streaming or asked.exclude_input else [*request.prompt_ids, *generation.tokens]
    tensors: dict[str, npt.NDArray[Any]] = {
        "output_ids": np.array([[shown]], dtype=np.int32).reshape(1, 1, -1),
        "sequence_length": np.array([[len(shown)]], dtype=np.int32),
    }
    if request.wants_context_logits and n_sent == 0:
        tensors["context_logits"] = np.stack(generation.context_logits)[np.newaxis]
    if request.wants_logits:
        vocab_size = generation.vocab_size
        rows = np.concatenate(generation.logits[n_sent:] or [np.zeros(0, dtype=np.float32)])
        tensors["generation_logits"] = rows.reshape(1, 1, -1, vocab_size)
    if request.wants_log_probs:
        tensors["output_log_probs"] = np.array([[generation.log_probs[n_sent:]]], dtype=np.float32).reshape(1, 1, -1)
        tensors["cum_log_probs"] = np.array([[generation.cum_log_prob]], dtype=np.float32)
    if asked.wants_perf_metrics and (generation.finished or not streaming):
        tensors |= _perf_metrics(asked, generation, tokens_per_block)
    if asked.wants_num_input_tokens:
        tensors["num_input_tokens"] = np.array([[len(request.prompt_ids)]], dtype=np.int32)
    if asked.wants_num_output_tokens:
        tensors["num_output_tokens"] = np.array([[len(generation.tokens)]], dtype=np.int32)
    return {name: tensor for name, tensor in tensors.items() if name in asked.outputs}


def _perf_metrics(asked: Asked, generation: Progress, tokens_per_block: int) -> dict[str, npt.NDArray[Any]]:
    """Times are nanoseconds of the monotonic clock. Nothing is drafted here, so what is said about drafts is 0."""
    n_tokens = len(asked.request.prompt_ids) + len(generation.tokens)
    reused, total = generation.reused_tokens // tokens_per_block, -(-n_tokens // tokens_per_block)
    blocks = {"alloc_new": total - reused, "reused": reused, "alloc_total": total}
    times = {
        "arrival": asked.arrival_ns,
        "first_scheduled": generation.first_scheduled_ns,
        "first_token": generation.first_token_ns,
        "last_token": generation.last_token_ns,
    }
    return {
        **{f"kv_cache_{name}_blocks": np.array([[count]], dtype=np.int32) for name, count in blocks.items()},
        **{f"{name}_time_ns": np.array([[at]], dtype=np.int64) for name, at in times.items()},
        "acceptance_rate": np.zeros((1, 1), dtype=np.float32),
        "total_accepted_draft_tokens": np.zeros((1, 1), dtype=np.int32),
        "total_draft_tokens": np.zeros((1, 1), dtype=np.int32),
    }


def _refuse(inputs: Arrays, outputs: Sequence[str]) -> None:
    for name in inputs.keys() & NOT_SERVED.keys():
        if inputs[name].size:
            raise InvalidRequestError(f"{name} is for {NOT_SERVED[name]}, which this target does not serve: leave it out")
    for name, value in ONLY.items():
        given = _scalar(inputs, name, value)
        if given != value:
            raise InvalidRequestError(f"{name} is {given:g}; this target serves {value:g} only")
    missing = [name for name in REQUIRED_OUTPUTS if name not in outputs]
    if missing:
        raise InvalidRequestError(f"{' and '.join(missing)} must be among the requested outputs")


def _sampling(inputs: Arrays, end_id: int) -> Sampling:
    default = Sampling()
    bias = inputs.get("embedding_bias")
    return Sampling(
        temperature=float(_scalar(inputs, "temperature", default.temperature)),
        top_k=int(_scalar(inputs, "runtime_top_k", default.top_k)),
        top_p=float(_scalar(inputs, "runtime_top_p", default.top_p)),
        seed=int(_scalar(inputs, "seed", default.seed)),
        repetition_penalty=float(_scalar(inputs, "repetition_penalty", default.repetition_penalty)),
        presence_penalty=float(_scalar(inputs, "presence_penalty", default.presence_penalty)),
        frequency_penalty=float(_scalar(inputs, "frequency_penalty", default.frequency_penalty)),
        min_tokens=int(_scalar(inputs, "min_tokens", default.min_tokens)),
        end_id=end_id,
        bad_words=_words(inputs, "bad_words_list"),
        bias=bias.reshape(-1) if bias is not None and bias.size else None,
    )


def _asked_for(output: str, inputs: Arrays, outputs: Sequence[str]) -> bool:
    return output in outputs and bool(_scalar(inputs, f"return_{output}", False))


def _scalar(inputs: Arrays, name: str, default: Any) -> Any:
    array = inputs.get(name)
    return default if array is None or not array.size else array.reshape(-1)[0].item()


def _words(inputs: Arrays, name: str) -> Words:
    """Words in TensorRT-LLM's layout [1, 2, n]: the ids one after the other, and under them where each word ends, padded with -1."""
    array = inputs.get(name)
    if array is None or not array.size:
        return ()
    flat, ends = array.reshape(2, -1).tolist()
    words, start = [], 0
    for end in ends:
        if end < 0:
            break
        if not start < end <= len(flat):
            raise InvalidRequestError(f"{name} says that a word ends at {end}; that is not after {start} and within its {len(flat)} ids")
        words.append(tuple(flat[start:end]))
        start = end
    return tuple(words)
