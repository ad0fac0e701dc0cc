"""What each figure of a report means, and which setting moves it: here, in vLLM, and in LMDeploy.

Shown in every report, and in docs/benchmark.md, which a test compares with this. Names of settings are those of vLLM's and LMDeploy's own
command lines; what they do stands in docs/coming_from.md.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """One figure: what it says, and what moves it."""

    figure: str
    says: str
    moved_here: str
    moved_there: str


MEANINGS = (
    Meaning(
        "TTFT",
        "From when the request was due to the first piece of its answer: waiting in line, reading the prompt, one pass. With the tagger "
        "the first piece is the whole answer.",
        "fewer requests at once (more servers); the prefix held in the KV cache; a shorter turn",
        "vLLM: enable-prefix-caching, max-num-batched-tokens, max-num-seqs. LMDeploy: enable-prefix-caching, max-prefill-token-num",
    ),
    Meaning(
        "TPOT",
        "Mean time of each token after the first, by request. It reads all weights once, so memory bandwidth and bits per weight decide. "
        "With one token there is nothing to measure.",
        "does not occur with strategy codes; for json: 4-bit weights, a GPU with more bandwidth",
        "vLLM: quantization, leave enforce-eager off, tensor-parallel-size. LMDeploy: model-format, leave eager-mode off, tp",
    ),
    Meaning(
        "ITL",
        "Pauses between the pieces of an answer as they arrive. Its median is near TPOT; a high P99 means that other requests' prompts "
        "were read in between.",
        "does not occur with strategy codes",
        "vLLM: max-num-batched-tokens lower, enable-chunked-prefill. LMDeploy: max-prefill-token-num lower",
    ),
    Meaning(
        "Request Latency",
        "From when the request was due to the end of its answer: TTFT and, for each further token, TPOT. It is what a robot waits.",
        "strategy codes (one pass), then words (two), then json; the target",
        "fewer tokens in the answer, before any other setting",
    ),
    Meaning(
        "Request throughput",
        "Answers a second over the whole run. In a closed loop it is callers divided by latency; with random arrivals it is the rate that "
        "was offered, until the server is full.",
        "instances of the tagger, max_batch_size of the target, more servers",
        "vLLM: max-num-seqs, gpu-memory-utilization. LMDeploy: max-batch-size, cache-max-entry-count",
    ),
    Meaning(
        "Output token throughput",
        "Tokens of answers a second. It says how busy the GPU is, not how fast a robot is served: an answer of one token needs none.",
        "not a figure to raise for this task",
        "as for request throughput",
    ),
    Meaning(
        "Goodput",
        "Answers that a robot can use and had in time, within 25 or 50 ms: by second, and as a share of all requests. The one figure that "
        "holds latency, failures and broken JSON together.",
        "everything above; the offered rate",
        "everything above; max_tokens of the request",
    ),
    Meaning(
        "Emotion right, celebrate right",
        "Share of requests with an acceptable answer. Requests that failed and answers that are not JSON count as wrong.",
        "finetuning, the task file, the threshold: docs/evaluation.md",
        "the system prompt; a grammar (response_format) against broken JSON",
    ),
)


def markdown() -> str:
    """Return the meanings as the table of docs/benchmark.md."""
    rows = [f"| {each.figure} | {each.says} | {each.moved_here} | {each.moved_there} |" for each in MEANINGS]
    return "\n".join(["| figure | what it says | what moves it here | what moves it there |", "|---|---|---|---|", *rows])
