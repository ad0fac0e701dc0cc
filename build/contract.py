"""The tensors that clients of NVIDIA's `inflight_batcher_llm` model repository rely on, as data.

Source: the repository's config.pbtxt files as of TensorRT-LLM 1.0.0, and the request and response handling behind them. Our templates are
tested against these tables, target by target, so a client cannot tell our models from NVIDIA's. A line changes here only when the release
that is imitated changes; logits are FP32 here, which is one of the two types that NVIDIA's template allows.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tensor:
    """One input or output of a model.

    Attributes:
        name: As clients say it.
        dtype: Triton's name of it without the prefix TYPE_.
        dims: Without the batch dimension, which all these models have; -1 is any length.
        optional: Whether an input may be left out. Outputs are not declared optional; they are left out where nobody asked for them.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]
    optional: bool = False


_TENSORRT_LLM_INPUTS = (
    Tensor("input_ids", "INT32", (-1,), optional=True),
    Tensor("encoder_input_features", "FP16", (-1, -1), optional=True),
    Tensor("encoder_output_lengths", "INT32", (1,), optional=True),
    Tensor("input_lengths", "INT32", (1,)),
    Tensor("request_output_len", "INT32", (1,)),
    Tensor("num_return_sequences", "INT32", (1,), optional=True),
    Tensor("draft_input_ids", "INT32", (-1,), optional=True),
    Tensor("decoder_input_ids", "INT32", (-1,), optional=True),
    Tensor("decoder_input_lengths", "INT32", (1,), optional=True),
    Tensor("draft_logits", "FP32", (-1, -1), optional=True),
    Tensor("draft_acceptance_threshold", "FP32", (1,), optional=True),
    Tensor("end_id", "INT32", (1,), optional=True),
    Tensor("pad_id", "INT32", (1,), optional=True),
    Tensor("stop_words_list", "INT32", (2, -1), optional=True),
    Tensor("bad_words_list", "INT32", (2, -1), optional=True),
    Tensor("embedding_bias", "FP32", (-1,), optional=True),
    Tensor("beam_width", "INT32", (1,), optional=True),
    Tensor("temperature", "FP32", (1,), optional=True),
    Tensor("runtime_top_k", "INT32", (1,), optional=True),
    Tensor("runtime_top_p", "FP32", (1,), optional=True),
    Tensor("runtime_top_p_min", "FP32", (1,), optional=True),
    Tensor("runtime_top_p_decay", "FP32", (1,), optional=True),
    Tensor("runtime_top_p_reset_ids", "INT32", (1,), optional=True),
    Tensor("len_penalty", "FP32", (1,), optional=True),
    Tensor("early_stopping", "BOOL", (1,), optional=True),
    Tensor("repetition_penalty", "FP32", (1,), optional=True),
    Tensor("min_tokens", "INT32", (1,), optional=True),
    Tensor("beam_search_diversity_rate", "FP32", (1,), optional=True),
    Tensor("presence_penalty", "FP32", (1,), optional=True),
    Tensor("frequency_penalty", "FP32", (1,), optional=True),
    Tensor("seed", "UINT64", (1,), optional=True),
    Tensor("return_log_probs", "BOOL", (1,), optional=True),
    Tensor("return_context_logits", "BOOL", (1,), optional=True),
    Tensor("return_generation_logits", "BOOL", (1,), optional=True),
    Tensor("return_perf_metrics", "BOOL", (1,), optional=True),
    Tensor("return_num_input_tokens", "BOOL", (1,), optional=True),
    Tensor("return_num_output_tokens", "BOOL", (1,), optional=True),
    Tensor("exclude_input_in_output", "BOOL", (1,), optional=True),
    Tensor("stop", "BOOL", (1,), optional=True),
    Tensor("streaming", "BOOL", (1,), optional=True),
    Tensor("prompt_embedding_table", "FP16", (-1, -1), optional=True),
    Tensor("prompt_table_extra_ids", "UINT64", (-1,), optional=True),
    Tensor("prompt_vocab_size", "INT32", (1,), optional=True),
    Tensor("cross_attention_mask", "BOOL", (-1, -1), optional=True),
    Tensor("mrope_rotary_cos_sin", "FP32", (-1,), optional=True),
    Tensor("mrope_position_deltas", "INT64", (1,), optional=True),
    Tensor("lora_task_id", "UINT64", (1,), optional=True),
    Tensor("lora_weights", "FP16", (-1, -1), optional=True),
    Tensor("lora_config", "INT32", (-1, 3), optional=True),
    Tensor("context_phase_params", "UINT8", (-1,), optional=True),
    Tensor("skip_cross_attn_blocks", "BOOL", (1,), optional=True),
    Tensor("retention_token_range_starts", "INT32", (-1,), optional=True),
    Tensor("retention_token_range_ends", "INT32", (-1,), optional=True),
    Tensor("retention_token_range_priorities", "INT32", (-1,), optional=True),
    Tensor("retention_token_range_durations_ms", "INT32", (-1,), optional=True),
    Tensor("retention_decode_priority", "INT32", (1,), optional=True),
    Tensor("retention_decode_duration_ms", "INT32", (1,), optional=True),
    Tensor("guided_decoding_guide_type", "STRING", (1,), optional=True),
    Tensor("guided_decoding_guide", "STRING", (1,), optional=True),
    Tensor("lookahead_window_size", "INT32", (1,), optional=True),
    Tensor("lookahead_ngram_size", "INT32", (1,), optional=True),
    Tensor("lookahead_verification_set_size", "INT32", (1,), optional=True),
)

_TENSORRT_LLM_OUTPUTS = (
    Tensor("output_ids", "INT32", (-1, -1)),
    Tensor("sequence_length", "INT32", (-1,)),
    Tensor("cum_log_probs", "FP32", (-1,)),
    Tensor("output_log_probs", "FP32", (-1, -1)),
    Tensor("context_logits", "FP32", (-1, -1)),
    Tensor("generation_logits", "FP32", (-1, -1, -1)),
    Tensor("batch_index", "INT32", (1,)),
    Tensor("sequence_index", "INT32", (1,)),
    Tensor("context_phase_params", "UINT8", (-1,)),
    Tensor("kv_cache_alloc_new_blocks", "INT32", (1,)),
    Tensor("kv_cache_reused_blocks", "INT32", (1,)),
    Tensor("kv_cache_alloc_total_blocks", "INT32", (1,)),
    Tensor("arrival_time_ns", "INT64", (1,)),
    Tensor("first_scheduled_time_ns", "INT64", (1,)),
    Tensor("first_token_time_ns", "INT64", (1,)),
    Tensor("last_token_time_ns", "INT64", (1,)),
    Tensor("acceptance_rate", "FP32", (1,)),
    Tensor("total_accepted_draft_tokens", "INT32", (1,)),
    Tensor("total_draft_tokens", "INT32", (1,)),
    Tensor("num_input_tokens", "INT32", (1,)),
    Tensor("num_output_tokens", "INT32", (1,)),
)

_PREPROCESSING_INPUTS = (
    Tensor("QUERY", "STRING", (1,)),
    Tensor("DECODER_QUERY", "STRING", (1,), optional=True),
    Tensor("IMAGE_BYTES", "UINT8", (-1, -1, -1, -1), optional=True),
    Tensor("IMAGE_URL", "STRING", (1,), optional=True),
    Tensor("VIDEO_BYTES", "UINT8", (-1, -1, -1, -1), optional=True),
    Tensor("REQUEST_OUTPUT_LEN", "INT32", (1,)),
    Tensor("BAD_WORDS_DICT", "STRING", (-1,), optional=True),
    Tensor("STOP_WORDS_DICT", "STRING", (-1,), optional=True),
    Tensor("EMBEDDING_BIAS_WORDS", "STRING", (-1,), optional=True),
    Tensor("EMBEDDING_BIAS_WEIGHTS", "FP32", (-1,), optional=True),
    Tensor("END_ID", "INT32", (1,), optional=True),
    Tensor("PAD_ID", "INT32", (1,), optional=True),
    Tensor("PROMPT_TABLE_EXTRA_ID", "UINT64", (1,), optional=True),
)

_PREPROCESSING_OUTPUTS = (
    Tensor("INPUT_ID", "INT32", (-1,)),
    Tensor("REQUEST_INPUT_LEN", "INT32", (1,)),
    Tensor("DECODER_INPUT_ID", "INT32", (-1,)),
    Tensor("REQUEST_DECODER_INPUT_LEN", "INT32", (1,)),
    Tensor("BAD_WORDS_IDS", "INT32", (2, -1)),
    Tensor("STOP_WORDS_IDS", "INT32", (2, -1)),
    Tensor("EMBEDDING_BIAS", "FP32", (-1,)),
    Tensor("REQUEST_OUTPUT_LEN", "INT32", (-1,)),
    Tensor("OUT_END_ID", "INT32", (1,)),
    Tensor("OUT_PAD_ID", "INT32", (1,)),
    Tensor("OUT_PROMPT_TABLE_EXTRA_IDS", "UINT64", (-1,)),
    Tensor("PIXEL_VALUES", "FP16", (-1, -1, -1, -1)),
    Tensor("ASPECT_RATIO_IDS", "INT64", (-1,)),
    Tensor("ASPECT_RATIO_MASK", "INT64", (-1, -1)),
    Tensor("CROSS_ATTENTION_MASK", "INT64", (-1, -1, -1)),
    Tensor("IMAGE_SIZES", "INT64", (2,)),
    Tensor("IS_VIDEO_INPUT", "BOOL", (1,)),
    Tensor("ATTENTION_MASK", "INT64", (-1,)),
    Tensor("IMAGE_GRID_THW", "INT64", (3,)),
    Tensor("VISION_INPUT_ID", "INT32", (-1,)),
)

_POSTPROCESSING_INPUTS = (
    Tensor("TOKENS_BATCH", "INT32", (-1, -1)),
    Tensor("SEQUENCE_LENGTH", "INT32", (-1,)),
)

_POSTPROCESSING_OUTPUTS = (Tensor("OUTPUT", "STRING", (-1,)),)

_ENSEMBLE_INPUTS = (
    Tensor("text_input", "STRING", (1,)),
    Tensor("decoder_text_input", "STRING", (1,), optional=True),
    Tensor("max_tokens", "INT32", (1,)),
    Tensor("num_return_sequences", "INT32", (1,), optional=True),
    Tensor("bad_words", "STRING", (-1,), optional=True),
    Tensor("stop_words", "STRING", (-1,), optional=True),
    Tensor("exclude_input_in_output", "BOOL", (1,), optional=True),
    Tensor("end_id", "INT32", (1,), optional=True),
    Tensor("pad_id", "INT32", (1,), optional=True),
    Tensor("top_k", "INT32", (1,), optional=True),
    Tensor("top_p", "FP32", (1,), optional=True),
    Tensor("temperature", "FP32", (1,), optional=True),
    Tensor("length_penalty", "FP32", (1,), optional=True),
    Tensor("repetition_penalty", "FP32", (1,), optional=True),
    Tensor("min_tokens", "INT32", (1,), optional=True),
    Tensor("presence_penalty", "FP32", (1,), optional=True),
    Tensor("frequency_penalty", "FP32", (1,), optional=True),
    Tensor("seed", "UINT64", (1,), optional=True),
    Tensor("return_log_probs", "BOOL", (1,), optional=True),
    Tensor("return_context_logits", "BOOL", (1,), optional=True),
    Tensor("return_generation_logits", "BOOL", (1,), optional=True),
    Tensor("return_perf_metrics", "BOOL", (1,), optional=True),
    Tensor("return_num_input_tokens", "BOOL", (1,), optional=True),
    Tensor("return_num_output_tokens", "BOOL", (1,), optional=True),
    Tensor("beam_width", "INT32", (1,), optional=True),
    Tensor("stream", "BOOL", (1,), optional=True),
    Tensor("prompt_embedding_table", "FP16", (-1, -1), optional=True),
    Tensor("prompt_table_extra_id", "UINT64", (1,), optional=True),
    Tensor("prompt_vocab_size", "INT32", (1,), optional=True),
    Tensor("embedding_bias_words", "STRING", (-1,), optional=True),
    Tensor("embedding_bias_weights", "FP32", (-1,), optional=True),
    Tensor("lora_task_id", "UINT64", (1,), optional=True),
    Tensor("lora_weights", "FP16", (-1, -1), optional=True),
    Tensor("lora_config", "INT32", (-1, 3), optional=True),
    Tensor("guided_decoding_guide_type", "STRING", (1,), optional=True),
    Tensor("guided_decoding_guide", "STRING", (1,), optional=True),
)

_ENSEMBLE_OUTPUTS = (
    Tensor("text_output", "STRING", (-1,)),
    Tensor("cum_log_probs", "FP32", (-1,)),
    Tensor("output_log_probs", "FP32", (-1, -1)),
    Tensor("context_logits", "FP32", (-1, -1)),
    Tensor("generation_logits", "FP32", (-1, -1, -1)),
    Tensor("batch_index", "INT32", (1,)),
    Tensor("sequence_index", "INT32", (1,)),
    Tensor("kv_cache_alloc_new_blocks", "INT32", (1,)),
    Tensor("kv_cache_reused_blocks", "INT32", (1,)),
    Tensor("kv_cache_alloc_total_blocks", "INT32", (1,)),
    Tensor("arrival_time_ns", "INT64", (1,)),
    Tensor("first_scheduled_time_ns", "INT64", (1,)),
    Tensor("first_token_time_ns", "INT64", (1,)),
    Tensor("last_token_time_ns", "INT64", (1,)),
    Tensor("acceptance_rate", "FP32", (1,)),
    Tensor("total_accepted_draft_tokens", "INT32", (1,)),
    Tensor("total_draft_tokens", "INT32", (1,)),
    Tensor("num_input_tokens", "INT32", (1,)),
    Tensor("num_output_tokens", "INT32", (1,)),
)

CONTRACT: dict[str, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]] = {
    "tensorrt_llm": (_TENSORRT_LLM_INPUTS, _TENSORRT_LLM_OUTPUTS),
    "preprocessing": (_PREPROCESSING_INPUTS, _PREPROCESSING_OUTPUTS),
    "postprocessing": (_POSTPROCESSING_INPUTS, _POSTPROCESSING_OUTPUTS),
    "ensemble": (_ENSEMBLE_INPUTS, _ENSEMBLE_OUTPUTS),
}
"""Model name -> (inputs, outputs)."""
