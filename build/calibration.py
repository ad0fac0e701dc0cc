"""Calibration data for quantization: our own dialogues, in the very prompt that will be served.

AutoAWQ looks at activations; those of a general text corpus are not those of this task. It concatenates samples and cuts them into blocks
of one length, so each sample here has exactly that length and a block never starts in the middle of a prompt.
"""

import random

from build.training.dialogues import Corpus
from one_pass import Prompt

TURN_TOKENS = 192
"""Room for dialogues after the prefix, in each sample."""


def samples(prompt: Prompt, count: int, seed: int) -> list[list[int]]:
    """Prompts with their answers, each filled up with further turns to one length.

    Args:
        prompt: the prompt of the task, for the tokenizer of the model.
        count: how many samples.
        seed: equal seeds give equal samples.

    Returns:
        `count` lists of token ids, all of the prefix's length plus TURN_TOKENS.
    """
    rng = random.Random(seed)
    task = prompt.task
    corpus = Corpus(task.label_names)
    length = len(prompt.prefix_ids) + TURN_TOKENS
    result = []
    for _ in range(count):
        ids = list(prompt.prefix_ids)
        while len(ids) < length:
            example = corpus.sample(rng, "train", noisy=False)
            answer = task.answer_for(example.emotion, example.celebrate)
            ids += prompt.encode_turn(example.dialogue)
            ids.append(prompt.answer_id(answer))
            ids += prompt.codec.encode_template(task.template.example_end)
        result.append(ids[:length])
    return result
