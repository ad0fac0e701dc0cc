"""How long one pass of the CPU engine takes for other shapes of the embedded model: `python -m build.training.measure_shapes`.

Time does not depend on what the weights are, so they are random here, and the builder's own rounding to 4 bits stands in for AWQ (the same
kernel runs). All engines are loaded at once and take turns, so that whatever else the machine does falls on all of them alike.
"""

import argparse
import json
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from build import engine, settings
from build.training import network
from build.training.dialogues import Corpus
from cpu_engine import CpuEngine, KvSequence
from one_pass import NO_LIMITS, Prompt, Task, TextCodec

SHAPES = {
    f"{layers} layers, intermediate {intermediate}": {"num_hidden_layers": layers, "intermediate_size": intermediate}
    for layers, intermediate in ((2, 768), (2, 1024), (3, 512), (3, 768), (4, 512), (4, 768), (6, 768))
}


def main() -> None:
    """Print one line per shape: parameters, and milliseconds per pass back to back and after pauses."""
    parser = argparse.ArgumentParser(description="Time one pass of the CPU engine for several shapes.")
    parser.add_argument("--passes", type=int, default=40)
    parser.add_argument("--gap-s", type=float, default=0.5)
    arguments = parser.parse_args()
    model = settings.model("pika-tiny")
    task = Task.load(model.task_file)
    prompt = Prompt(task, TextCodec.load(model.folder / "hf" / "tokenizer.json"), settings.target("cpu").tokens_per_block, NO_LIMITS)
    rng, corpus = random.Random(1), Corpus(task.label_names)
    prompts = [prompt.encode(corpus.sample(rng, "test", noisy=False).dialogue) for _ in range(arguments.passes)]
    turn_tokens = statistics.mean(map(len, prompts)) - len(prompt.prefix_ids)
    print(f"prefix of {len(prompt.prefix_ids)} tokens, turn of {turn_tokens:.0f} on average")
    with tempfile.TemporaryDirectory() as folder:
        engines = {name: _engine(Path(folder), model.folder / "hf", shape) for name, shape in SHAPES.items()}
        times: dict[tuple[str, float], list[float]] = {(name, gap_s): [] for name in engines for gap_s in (0.0, arguments.gap_s)}
        for gap_s in (0.0, arguments.gap_s):
            for prompt_ids in prompts:
                for name, (_, sequence) in engines.items():
                    time.sleep(gap_s)
                    started = time.perf_counter()
                    sequence.one_pass(prompt_ids)
                    times[name, gap_s].append(time.perf_counter() - started)
        for name, (parameters, _) in engines.items():
            back_to_back, with_gaps = (statistics.median(times[name, gap_s]) * 1000 for gap_s in (0.0, arguments.gap_s))
            pauses = f"{with_gaps:5.2f} ms after {arguments.gap_s} s"
            print(f"{name:30} {parameters / 1e6:5.2f} M  p50 {back_to_back:5.2f} ms back to back, {pauses}")


def _engine(folder: Path, tokenizer: Path, shape: dict[str, Any]) -> tuple[int, KvSequence]:
    out = folder / "-".join(map(str, shape.values()))
    checkpoint = out / "hf"
    checkpoint.mkdir(parents=True)
    torch.manual_seed(0)
    fields = json.loads((tokenizer / "config.json").read_text()) | shape
    built = network.build(fields, 0.0)
    network.save(built.state_dict(), fields, [fields["eos_token_id"]], checkpoint)
    for path in tokenizer.glob("*token*"):
        shutil.copyfile(path, checkpoint / path.name)
    engine.run_builder(checkpoint, out / "engine", settings.target("cpu").intra_op_threads, out / "log")
    return sum(p.numel() for p in built.parameters()), CpuEngine(out / "engine").new_sequence()


if __name__ == "__main__":
    main()
