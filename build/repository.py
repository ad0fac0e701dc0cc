"""Stage `model_repository`: templates, engine, tokenizer and task file to a directory that tritonserver can serve.

What could go wrong at the first request is checked here instead: every code is one token, no two share one, every strategy can tell all
labels apart, the longest prompt and answer fit the engine, and every config.pbtxt parses as Triton's own ModelConfig. The result is
self-contained and can be moved.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from build import ROOT, manifest
from build.errors import PromptError, SettingError
from build.settings import Model, Target
from one_pass import STRATEGIES, Prompt, Task, TaskError, TextCodec, make_strategies

TEMPLATES = ROOT / "model_repository"
TAGGER_INSTANCES = 2
TAGGER_MAX_BATCH_SIZE = 16


def known_strategy(name: str) -> str:
    """A strategy as given on the command line.

    Raises:
        SettingError: there is none of that name, and the message lists those that exist.
    """
    if name not in STRATEGIES:
        raise SettingError(f"strategy={name} is not known; the tagger has {', '.join(STRATEGIES)}")
    return name


def assemble(model: Model, target: Target, strategy: str) -> None:
    """Make `model.folder / "triton-<target>"`.

    Args:
        model: whose checkpoint and task.
        target: whose engine.
        strategy: how a request is answered that names no strategy.

    Raises:
        ManifestError: the engine or the checkpoint is not there or damaged.
        PromptError: the task file does not fit the tokenizer or the engine; the message names the entry and the fix.
    """
    engine_folder = model.folder / f"engine-{target.name}"
    inputs = {
        "engine": manifest.read(engine_folder).content_hash,
        "awq": manifest.read(model.folder / "awq").content_hash,
        "task": manifest.sha256_of(model.task_file),
    }
    final = model.folder / f"triton-{target.name}"
    settings = {"tokens_per_block": target.tokens_per_block, "strategy": strategy}
    with manifest.new_folder(final, "model_repository", inputs, settings, {}) as draft:
        draft.facts.update(_tagger(draft.path / "tagger", model, settings, _context_tokens(engine_folder)))
        _cpu_engine(draft.path / "tensorrt_llm", engine_folder)
    facts = manifest.read(final).facts
    print(
        f"{final.relative_to(ROOT)}: task {facts['task']}, {facts['labels']} labels, prefix of {facts['prefix_tokens']} tokens "
        f"in {facts['prefix_tokens'] // target.tokens_per_block} KV-cache blocks",
        flush=True,
    )


def _tagger(out: Path, model: Model, settings: Mapping[str, Any], context_tokens: int) -> dict[str, object]:
    tokenizer = model.folder / "awq" / "tokenizer.json"
    try:
        task = Task.load(model.task_file)
        codec = TextCodec.load(tokenizer)
        prompt = Prompt(task, codec, settings["tokens_per_block"])
        strategies = make_strategies(prompt)
    except TaskError as error:
        raise PromptError(f"task {model.task_file.name} and {model.name} do not fit together: {error}") from error
    answer_tokens, longest = max((strategy.max_answer_tokens, name) for name, strategy in strategies.items())
    if prompt.max_tokens + answer_tokens > context_tokens:
        raise PromptError(
            f"the longest prompt has {prompt.max_tokens} tokens ({len(prompt.prefix_ids)} of prefix) and the strategy {longest} adds up to "
            f"{answer_tokens}, but the engine holds {context_tokens}: shorten the instructions or examples in {model.task_file.name}, "
            "or the limits in one_pass/prompt.py"
        )
    source = TEMPLATES / "tagger"
    values = {
        "max_batch_size": TAGGER_MAX_BATCH_SIZE,
        "n_labels": len(task.labels),
        "instances": TAGGER_INSTANCES,
        "labels": ",".join(task.label_names),
        "task": f"{task.name}/{task.version}",
        **settings,
    }
    shutil.copytree(source / "1", out / "1", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(model.task_file, out / "1" / "task.toml")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer.with_name(name), out / "1" / name)
    render(source / "config.pbtxt", out / "config.pbtxt", values)
    return {
        "task": values["task"],
        "labels": len(task.labels),
        "prefix_tokens": len(prompt.prefix_ids),
        "max_prompt_tokens": prompt.max_tokens,
        "max_answer_tokens": answer_tokens,
    }


def _cpu_engine(out: Path, engine_folder: Path) -> None:
    source = TEMPLATES / "tensorrt_llm" / "cpu"
    shutil.copytree(source / "1", out / "1", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(engine_folder, out / "1" / "engine", copy_function=os.link, ignore=shutil.ignore_patterns(manifest.NAME))
    render(source / "config.pbtxt", out / "config.pbtxt", {})


def render(template: Path, out: Path, values: dict[str, object]) -> None:
    """Fill in a config.pbtxt and prove that Triton can read it.

    Raises:
        PromptError: a placeholder has no value, or the result is not a ModelConfig.
    """
    try:
        text = Template(template.read_text(encoding="utf-8")).substitute(values)
        text_format.Parse(text, model_config_pb2.ModelConfig())
    except (KeyError, ValueError, text_format.ParseError) as error:
        raise PromptError(f"{template.relative_to(ROOT)} cannot be filled in: {error!r}") from error
    out.write_text(text, encoding="utf-8")


def _context_tokens(engine_folder: Path) -> int:
    tokens: int = json.loads((engine_folder / "genai_config.json").read_text())["search"]["max_length"]
    return tokens
