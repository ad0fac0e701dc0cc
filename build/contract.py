"""The tensors of NVIDIA's Triton models for TensorRT-LLM 1.0.0: what a client may send, and what it gets back.

These are the inputs and outputs of the config.pbtxt templates in `all_models/inflight_batcher_llm` of TensorRT-LLM's Triton backend, as of
May 2025 and with pull request 5445, which 1.0.0 has. NVIDIA leaves two types open; here they are what our repositories fill in: logits are
FP32 and encoder features FP16. Dims are without the batch dimension. Nobody has compared the tables with the image yet: `doit verify` does.

A line is NAME TYPE [DIMS], and "optional" for an input that a client may leave out. Change a line only if NVIDIA's template says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Tensor:
    """One tensor of a model.

    Attributes:
        dtype: Triton's name without TYPE_, such as INT32.
        dims: Without the batch dimension; -1 is any length.
        optional: Whether a request may leave it out. Never set for outputs.
    """

    dtype: str
    dims: tuple[int, ...]
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.dims)}{' optional' if self.optional else ''}"


@dataclass(frozen=True)
class Contract:
    """The tensors of one model, by name."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


_TENSORRT_LLM_INPUTS = """
input_ids INT32 [-1] optional
encoder_input_features FP16 [-1,-1] optional
encoder_output_lengths INT32 [1] optional
input_lengths INT32 [1]
request_output_len INT32 [1]
num_return_sequences INT32 [1] optional
draft_input_ids INT32 [-1] optional
decoder_input_ids INT32 [-1] optional
decoder_input_lengths INT32 [1] optional
draft_logits FP32 [-1,-1] optional
draft_acceptance_threshold FP32 [1] optional
end_id INT32 [1] optional
pad_id INT32 [1] optional
stop_words_list INT32 [2,-1] optional
bad_words_list INT32 [2,-1] optional
embedding_bias FP32 [-1] optional
beam_width INT32 [1] optional
temperature FP32 [1] optional
runtime_top_k INT32 [1] optional
runtime_top_p FP32 [1] optional
runtime_top_p_min FP32 [1] optional
runtime_top_p_decay FP32 [1] optional
runtime_top_p_reset_ids INT32 [1] optional
len_penalty FP32 [1] optional
early_stopping BOOL [1] optional
repetition_penalty FP32 [1] optional
min_tokens INT32 [1] optional
beam_search_diversity_rate FP32 [1] optional
presence_penalty FP32 [1] optional
frequency_penalty FP32 [1] optional
seed UINT64 [1] optional
return_log_probs BOOL [1] optional
return_context_logits BOOL [1] optional
return_generation_logits BOOL [1] optional
return_perf_metrics BOOL [1] optional
return_num_input_tokens BOOL [1] optional
return_num_output_tokens BOOL [1] optional
exclude_input_in_output BOOL [1] optional
stop BOOL [1] optional
streaming BOOL [1] optional
prompt_embedding_table FP16 [-1,-1] optional
prompt_table_extra_ids UINT64 [-1] optional
prompt_vocab_size INT32 [1] optional
cross_attention_mask BOOL [-1,-1] optional
mrope_rotary_cos_sin FP32 [-1] optional
mrope_position_deltas INT64 [1] optional
lora_task_id UINT64 [1] optional
lora_weights FP16 [-1,-1] optional
lora_config INT32 [-1,3] optional
context_phase_params UINT8 [-1] optional
skip_cross_attn_blocks BOOL [1] optional
retention_token_range_starts INT32 [-1] optional
retention_token_range_ends INT32 [-1] optional
retention_token_range_priorities INT32 [-1] optional
retention_token_range_durations_ms INT32 [-1] optional
retention_decode_priority INT32 [1] optional
retention_decode_duration_ms INT32 [1] optional
guided_decoding_guide_type STRING [1] optional
guided_decoding_guide STRING [1] optional
lookahead_window_size INT32 [1] optional
lookahead_ngram_size INT32 [1] optional
lookahead_verification_set_size INT32 [1] optional
"""

_TENSORRT_LLM_OUTPUTS = """
output_ids INT32 [-1,-1]
sequence_length INT32 [-1]
cum_log_probs FP32 [-1]
output_log_probs FP32 [-1,-1]
context_logits FP32 [-1,-1]
generation_logits FP32 [-1,-1,-1]
batch_index INT32 [1]
sequence_index INT32 [1]
context_phase_params UINT8 [-1]
kv_cache_alloc_new_blocks INT32 [1]
kv_cache_reused_blocks INT32 [1]
kv_cache_alloc_total_blocks INT32 [1]
arrival_time_ns INT64 [1]
first_scheduled_time_ns INT64 [1]
first_token_time_ns INT64 [1]
last_token_time_ns INT64 [1]
acceptance_rate FP32 [1]
total_accepted_draft_tokens INT32 [1]
total_draft_tokens INT32 [1]
num_input_tokens INT32 [1]
num_output_tokens INT32 [1]
"""

_PREPROCESSING_INPUTS = """
QUERY STRING [1]
DECODER_QUERY STRING [1] optional
IMAGE_BYTES UINT8 [-1,-1,-1,-1] optional
IMAGE_URL STRING [1] optional
VIDEO_BYTES UINT8 [-1,-1,-1,-1] optional
REQUEST_OUTPUT_LEN INT32 [1]
BAD_WORDS_DICT STRING [-1] optional
STOP_WORDS_DICT STRING [-1] optional
EMBEDDING_BIAS_WORDS STRING [-1] optional
EMBEDDING_BIAS_WEIGHTS FP32 [-1] optional
END_ID INT32 [1] optional
PAD_ID INT32 [1] optional
PROMPT_TABLE_EXTRA_ID UINT64 [1] optional
"""

_PREPROCESSING_OUTPUTS = """
INPUT_ID INT32 [-1]
REQUEST_INPUT_LEN INT32 [1]
DECODER_INPUT_ID INT32 [-1]
REQUEST_DECODER_INPUT_LEN INT32 [1]
BAD_WORDS_IDS INT32 [2,-1]
STOP_WORDS_IDS INT32 [2,-1]
EMBEDDING_BIAS FP32 [-1]
REQUEST_OUTPUT_LEN INT32 [-1]
OUT_END_ID INT32 [1]
OUT_PAD_ID INT32 [1]
OUT_PROMPT_TABLE_EXTRA_IDS UINT64 [-1]
PIXEL_VALUES FP16 [-1,-1,-1,-1]
ASPECT_RATIO_IDS INT64 [-1]
ASPECT_RATIO_MASK INT64 [-1,-1]
CROSS_ATTENTION_MASK INT64 [-1,-1,-1]
IMAGE_SIZES INT64 [2]
IS_VIDEO_INPUT BOOL [1]
ATTENTION_MASK INT64 [-1]
IMAGE_GRID_THW INT64 [3]
VISION_INPUT_ID INT32 [-1]
"""

_POSTPROCESSING_INPUTS = """
TOKENS_BATCH INT32 [-1,-1]
SEQUENCE_LENGTH INT32 [-1]
"""

_POSTPROCESSING_OUTPUTS = """
OUTPUT STRING [-1]
"""

_ENSEMBLE_INPUTS = """
text_input STRING [1]
decoder_text_input STRING [1] optional
max_tokens INT32 [1]
num_return_sequences INT32 [1] optional
bad_words STRING [-1] optional
stop_words STRING [-1] optional
exclude_input_in_output BOOL [1] optional
end_id INT32 [1] optional
pad_id INT32 [1] optional
top_k INT32 [1] optional
top_p FP32 [1] optional
temperature FP32 [1] optional
length_penalty FP32 [1] optional
repetition_penalty FP32 [1] optional
min_tokens INT32 [1] optional
presence_penalty FP32 [1] optional
frequency_penalty FP32 [1] optional
seed UINT64 [1] optional
return_log_probs BOOL [1] optional
return_context_logits BOOL [1] optional
return_generation_logits BOOL [1] optional
return_perf_metrics BOOL [1] optional
return_num_input_tokens BOOL [1] optional
return_num_output_tokens BOOL [1] optional
beam_width INT32 [1] optional
stream BOOL [1] optional
prompt_embedding_table FP16 [-1,-1] optional
prompt_table_extra_id UINT64 [1] optional
prompt_vocab_size INT32 [1] optional
embedding_bias_words STRING [-1] optional
embedding_bias_weights FP32 [-1] optional
lora_task_id UINT64 [1] optional
lora_weights FP16 [-1,-1] optional
lora_config INT32 [-1,3] optional
guided_decoding_guide_type STRING [1] optional
guided_decoding_guide STRING [1] optional
"""

_ENSEMBLE_OUTPUTS = """
text_output STRING [-1]
cum_log_probs FP32 [-1]
output_log_probs FP32 [-1,-1]
context_logits FP32 [-1,-1]
generation_logits FP32 [-1,-1,-1]
batch_index INT32 [1]
sequence_index INT32 [1]
kv_cache_alloc_new_blocks INT32 [1]
kv_cache_reused_blocks INT32 [1]
kv_cache_alloc_total_blocks INT32 [1]
arrival_time_ns INT64 [1]
first_scheduled_time_ns INT64 [1]
first_token_time_ns INT64 [1]
last_token_time_ns INT64 [1]
acceptance_rate FP32 [1]
total_accepted_draft_tokens INT32 [1]
total_draft_tokens INT32 [1]
num_input_tokens INT32 [1]
num_output_tokens INT32 [1]
"""


def _tensors(table: str) -> dict[str, Tensor]:
    found = {}
    for line in table.strip().splitlines():
        name, dtype, dims, *optional = line.split()
        found[name] = Tensor(dtype, tuple(int(size) for size in dims.strip("[]").split(",")), optional == ["optional"])
    return found


MODELS: Mapping[str, Contract] = {
    "tensorrt_llm": Contract(_tensors(_TENSORRT_LLM_INPUTS), _tensors(_TENSORRT_LLM_OUTPUTS)),
    "preprocessing": Contract(_tensors(_PREPROCESSING_INPUTS), _tensors(_PREPROCESSING_OUTPUTS)),
    "postprocessing": Contract(_tensors(_POSTPROCESSING_INPUTS), _tensors(_POSTPROCESSING_OUTPUTS)),
    "ensemble": Contract(_tensors(_ENSEMBLE_INPUTS), _tensors(_ENSEMBLE_OUTPUTS)),
}
"""By the name of the model in NVIDIA's repository, which is its name in ours."""
