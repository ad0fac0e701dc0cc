"""One AWQ file, three readers: the CPU engine through Triton, and torch on weights unpacked from either checkpoint, independently."""

import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import AutoConfig, DynamicCache, Phi3ForCausalLM

from build.serve import Server
from one_pass import CodeTable, Dialogue, Prompt
from pika_tagger import TaggerClient
from tests.e2e.conftest import MODEL
from tests.support import dequantize
from tests.support.engine_client import generate

pytestmark = pytest.mark.e2e

N_DIALOGUES = 200


@pytest.fixture(scope="module")
def dialogues(evaluation: list[dict[str, str]]) -> list[Dialogue]:
    rows = random.Random(1).sample(evaluation, N_DIALOGUES)
    return [Dialogue(row["user_last_message"], row["pika_response"], row.get("pika_last_message")) for row in rows]


def torch_logits(weights: dict[str, torch.Tensor], prompt: Prompt, dialogues: list[Dialogue]) -> npt.NDArray[np.float32]:
    config = AutoConfig.from_pretrained(MODEL.folder / "hf")
    model = Phi3ForCausalLM(config).eval()
    model.load_state_dict(weights)
    rows = []
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=torch.tensor([prompt.prefix_ids]), past_key_values=cache, use_cache=True)
        for dialogue in dialogues:
            cache.crop(len(prompt.prefix_ids))
            turn = torch.tensor([prompt.encode_turn(dialogue)])
            rows.append(model(input_ids=turn, past_key_values=cache, use_cache=True).logits[0, -1].float().numpy())
    return np.stack(rows)


def test_all_three_give_the_same_tags(server: Server, client: TaggerClient, prompt: Prompt, dialogues: list[Dialogue]) -> None:
    codes = CodeTable(prompt.task, prompt.codec)
    want = np.array([[True]])
    served = np.stack(
        [generate(server, prompt.encode(d), 1, return_generation_logits=want)["generation_logits"][0, 0, 0] for d in dialogues]
    )
    from_awq = torch_logits(dequantize.from_awq(Path(MODEL.folder / "awq")), prompt, dialogues)
    from_trtllm = torch_logits(dequantize.from_trtllm(Path(MODEL.folder / "trtllm")), prompt, dialogues)
    spread = from_awq.std()
    assert np.abs(served - from_awq).max() < 0.05 * spread
    assert np.abs(from_trtllm - from_awq).max() < 0.05 * spread
    tags = [[codes.read(row) for row in logits] for logits in (served, from_awq, from_trtllm)]
    through_client = [client.tag(**vars(d)) for d in dialogues]
    for others in tags[1:]:
        same = [a.emotion_name == b.emotion_name and a.flag == b.flag for a, b in zip(tags[0], others, strict=True)]
        assert np.mean(same) >= 0.99
    assert [(t.emotion_name, t.celebrate) for t in through_client] == [(t.emotion_name, t.flag) for t in tags[0]]
