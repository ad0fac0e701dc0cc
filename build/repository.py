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

from build import ROOT, engine_record, manifest, warmup
from build.container import Machine
from build.errors import EngineError, PromptError, SettingError
from build.settings import Gpu, Model, Target, Vllm, container
from one_pass import STRATEGIES, Prompt, Task, TaskError, TextCodec, make_strategies

TEMPLATES = ROOT / "model_repository"
TAGGER_MAX_BATCH_SIZE = 16
FEWEST_TAGGER_INSTANCES = 4
"""Triton now and then misses that an instance of a model with a queue policy has become free: docs/cpu_target.md. The next one that becomes
free mends it, so that a queue stands still only if all of them are missed in a row."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def tagger_instances(target: Target) -> int:
    """How many requests can be in the tagger's hands at once.

    An instance waits for the engine's answer, so as many are needed as the engine works on at once (one on cpu, a full batch on a GPU:
    fewer would keep inflight batches small), and one more to make the next prompt meanwhile; but never fewer than FEWEST_TAGGER_INSTANCES.
    """
    return max(FEWEST_TAGGER_INSTANCES, 1 + _max_batch_size(target))


def served_tagger_instances(repository: Path) -> int:
    """As many as an assembled repository has."""
    config = text_format.Parse((repository / "tagger" / "config.pbtxt").read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    return sum(group.count for group in config.instance_group)


def known_strategy(name: str) -> str:
    """A strategy as given on the command line.

    Raises:
        SettingError: there is none of that name, and the message lists those that exist.
    """
    if name not in STRATEGIES:
        raise SettingError(f"strategy={name} is not known; the tagger has {', '.join(STRATEGIES)}")
    return name


def assemble(model: Model, target: Target, strategy: str, decoupled: bool = False) -> None:
    """Make `model.folder / "triton-<target>"`.

    Args:
        model: whose checkpoint and task.
        target: whose engine.
        strategy: how a request is answered that names no strategy.
        decoupled: whether the engine and the ensemble may send several responses to a request, as streaming needs; such a model can only
            be called through a stream.

    Raises:
        ManifestError: the engine or the checkpoint is not there or damaged.
        EngineError: the engine was built for another target, GPU or version, or from another checkpoint; the message names both.
        PromptError: the task file does not fit the tokenizer or the engine; the message names the entry and the fix.
    """
    engine_folder = model.folder / f"engine-{target.name}"
    inputs = {
        **({} if target.vllm else {"engine": manifest.read(engine_folder).content_hash}),
        "awq": manifest.read(model.folder / "awq").content_hash,
        "task": manifest.sha256_of(model.task_file),
    }
    final = model.folder / f"triton-{target.name}"
    settings: dict[str, Any] = {
        "tokens_per_block": target.tokens_per_block,
        "strategy": strategy,
        "decoupled": "yes" if decoupled else "no",
    }
    flag = str(decoupled).lower()
    with manifest.new_folder(final, "model_repository", inputs, settings, {}) as draft:
        if target.vllm is not None:
            context_tokens = model.max_seq_len
        elif target.gpu is not None:
            context_tokens = _gpu_context_tokens(engine_folder, model, target, target.gpu)
        else:
            context_tokens = _context_tokens(engine_folder)
        prompt, checked = _tagger(
            draft.path / "tagger",
            model,
            settings | {"instances": tagger_instances(target), "queue_size": target.tagger_queue_size, "decoupled": flag},
            context_tokens,
        )
        draft.facts.update(checked)
        if target.vllm is not None:
            _vllm_engine(draft.path / "tensorrt_llm", model, target, target.vllm, prompt, flag)
        elif target.gpu is not None:
            _gpu_engine(draft.path / "tensorrt_llm", engine_folder, target, target.gpu, prompt, flag)
        else:
            _cpu_engine(draft.path / "tensorrt_llm", engine_folder, target, prompt, flag)
        _text_models(draft.path, model, _max_batch_size(target) if target.gpu else 1)
    facts = manifest.read(final).facts
    print(
        f"{final.relative_to(ROOT)}: task {facts['task']}, {facts['labels']} labels, prefix of {facts['prefix_tokens']} tokens "
        f"in {facts['prefix_tokens'] // target.tokens_per_block} KV-cache blocks",
        flush=True,
    )


def _tagger(out: Path, model: Model, settings: Mapping[str, Any], context_tokens: int) -> tuple[Prompt, dict[str, object]]:
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
        "labels": ",".join(task.label_names),
        "task": f"{task.name}/{task.version}",
        **settings,
    }
    shutil.copytree(source / "1", out / "1", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(model.task_file, out / "1" / "task.toml")
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer.with_name(name), out / "1" / name)
    render(source / "config.pbtxt", out / "config.pbtxt", values)
    facts = {
        "task": values["task"],
        "labels": len(task.labels),
        "prefix_tokens": len(prompt.prefix_ids),
        "max_prompt_tokens": prompt.max_tokens,
        "max_answer_tokens": answer_tokens,
    }
    return prompt, facts


def _max_batch_size(target: Target) -> int:
    """How many requests the engine works on at once."""
    if target.vllm is not None:
        return target.vllm.max_num_seqs
    return target.gpu.max_batch_size if target.gpu else 1


def _cpu_engine(out: Path, engine_folder: Path, target: Target, prompt: Prompt, decoupled: str) -> None:
    _link(engine_folder, out / "1" / "engine")
    parameters = {"tokens_per_block": target.tokens_per_block, "generation_slots": target.generation_slots}
    _python_engine(out, "cpu", prompt, decoupled, {**parameters, "max_queue_size": target.max_queue_size})


def _vllm_engine(out: Path, model: Model, target: Target, vllm: Vllm, prompt: Prompt, decoupled: str) -> None:
    _link(model.folder / "awq", out / "1" / "awq")
    parameters = {"block_size": target.tokens_per_block, "max_model_len": model.max_seq_len, **vars(vllm)}
    _python_engine(out, "vllm", prompt, decoupled, {**parameters, "max_queue_size": target.max_queue_size})


def _python_engine(out: Path, name: str, prompt: Prompt, decoupled: str, parameters: Mapping[str, object]) -> None:
    """An engine that is a Python model: what they all share, and its own code beside it."""
    source = TEMPLATES / "tensorrt_llm"
    for part in ("python", name):
        shutil.copytree(source / part / "1", out / "1", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    lines = [f'  {{ key: "{key}" value: {{ string_value: "{value}" }} }}' for key, value in parameters.items()]
    body = ",\n".join(lines)
    warm_up = warmup.write(out / warmup.FOLDER, prompt)
    values: dict[str, object] = {"decoupled": decoupled, "warmup": warm_up, "parameters": f"parameters [\n{body}\n]"}
    render(source / "python" / "config.pbtxt", out / "config.pbtxt", values)


def _link(folder: Path, out: Path) -> None:
    shutil.copytree(folder, out, copy_function=os.link, ignore=shutil.ignore_patterns(manifest.NAME))


def _gpu_engine(out: Path, engine_folder: Path, target: Target, gpu: Gpu, prompt: Prompt, decoupled: str) -> None:
    # Triton wants a version folder; NVIDIA's backend finds the engine by the absolute path in its configuration.
    _link(engine_folder, out / "1" / "engine")
    values = {
        "max_batch_size": gpu.max_batch_size,
        "max_queue_size": target.max_queue_size,
        "decoupled": decoupled,
        "engine_dir": f"{container().model_repository}/tensorrt_llm/1/engine",
        "kv_cache_tokens": gpu.kv_cache_tokens,
        "kv_cache_free_gpu_mem_fraction": gpu.kv_cache_free_gpu_mem_fraction,
        "warmup": warmup.write(out / warmup.FOLDER, prompt),
    }
    render(TEMPLATES / "tensorrt_llm" / "trtllm" / "config.pbtxt", out / "config.pbtxt", values)


def _text_models(repository: Path, model: Model, max_batch_size: int) -> None:
    """Text in, text out around the engine: NVIDIA's preprocessing, postprocessing and ensemble."""
    for name in ("preprocessing", "postprocessing"):
        out = repository / name
        shutil.copytree(TEMPLATES / name / "1", out / "1", ignore=shutil.ignore_patterns("__pycache__"))
        for file in TOKENIZER_FILES:
            shutil.copyfile(model.folder / "awq" / file, out / "1" / file)
        render(TEMPLATES / name / "config.pbtxt", out / "config.pbtxt", {"max_batch_size": max_batch_size})
    version = repository / "ensemble" / "1"
    version.mkdir(parents=True)
    (version / ".keep").touch()  # Triton wants the folder, and what copies folders often leaves out the empty ones
    render(TEMPLATES / "ensemble" / "config.pbtxt", repository / "ensemble" / "config.pbtxt", {"max_batch_size": max_batch_size})


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


def _gpu_context_tokens(engine_folder: Path, model: Model, target: Target, gpu: Gpu) -> int:
    record, image = engine_record.read(engine_folder), container()
    if record.target != target.name:
        raise EngineError(f"{engine_folder} was built for target={record.target}, not for {target.name}: run `doit build_engine` again")
    wanted = Machine(image.tensorrt_llm, image.tensorrt, gpu.name, gpu.compute_capability, record.machine.driver)
    if found := engine_record.differences(record.machine, wanted, "presets.toml has"):
        raise EngineError(f"{engine_folder} is not what target={target.name} wants:\n{found}\nRun `doit build_engine` again")
    awq_hash = manifest.read(model.folder / "awq").content_hash
    if record.awq_hash != awq_hash:
        raise EngineError(
            f"{engine_folder} was built from the AWQ checkpoint {record.awq_hash[:12]}, but {model.folder / 'awq'}, whose tokenizer "
            f"would be used, is {awq_hash[:12]}: run `doit convert build_engine`"
        )
    if record.max_batch_size < gpu.max_batch_size:
        raise EngineError(
            f"{engine_folder} takes {record.max_batch_size} requests at once, target={target.name} wants {gpu.max_batch_size}: "
            "run `doit build_engine` again"
        )
    if record.tokens_per_block != target.tokens_per_block:
        raise EngineError(
            f"{engine_folder} has blocks of {record.tokens_per_block} tokens, target={target.name} wants {target.tokens_per_block}: "
            "run `doit build_engine` again"
        )
    return record.max_seq_len
