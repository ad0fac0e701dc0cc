"""What to build and for what: rows of presets.toml, chosen by name.

This module knows the form of a row. A new field of presets.toml is added to the dataclass that holds it.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from build import ROOT
from build.errors import SettingError

PRESETS = ROOT / "build" / "presets.toml"
CHECKPOINTS = ROOT / "checkpoints"
TASKS = ROOT / "model_repository" / "tagger" / "prompts"


@dataclass(frozen=True)
class Quantization:
    """How AutoAWQ is run. What is not here is fixed: 4-bit, groups of 128, zero point, GEMM packing."""

    calibration_samples: int
    seed: int
    search_clipping: bool
    duo_scaling: bool
    """Whether the scales that are tried depend on the weights besides the activations. If not, one of them is "no scale", which suits
    weights that were trained on a 4-bit grid."""


@dataclass(frozen=True)
class Finetuning:
    """How a model is taught the codes. How data are mixed and answers weighed is the same for all models: see build/training."""

    steps: int
    learning_rate: float
    """The highest; it rises over the first steps and falls to nothing at the end."""
    batch_size: int
    """Dialogues in one pass, an even number, because they come in pairs: what memory depends on."""
    passes_per_step: int
    """Passes whose gradients are added up before the weights are changed."""
    dropout: float
    """On what goes into the adapter, or, where all weights are trained, on what each layer adds."""
    own_share: float
    """Share of the dialogues that are the user's own, where a file of them is given."""
    validate_every_steps: int
    """The state is saved at the same steps: this much is lost when a run is interrupted."""
    validation_dialogues: int
    seed: int
    lora_rank: int | None = None
    """Rank of the adapter; without it all weights are trained."""


@dataclass(frozen=True)
class Hub:
    """A Hugging Face repository at a commit, as 40 hex digits."""

    repo: str
    revision: str


@dataclass(frozen=True)
class Model:
    """A model preset. Either `source` (a directory, relative to the checkout) or `hub` is set."""

    name: str
    about: str
    task: str
    quantize: Quantization
    source: str | None = None
    hub: Hub | None = None
    finetune: Finetuning | None = None
    tuned_from: str | None = None
    """The preset whose finetuning makes this model's checkpoint."""
    max_seq_len: int = 2016
    """Tokens of the longest prompt and answer together that a GPU engine is built for."""

    @property
    def folder(self) -> Path:
        """Where the stages of this model keep their results."""
        return CHECKPOINTS / self.name

    @property
    def task_file(self) -> Path:
        """The task that the model is asked."""
        return TASKS / f"{self.task}.toml"


@dataclass(frozen=True)
class Drivers:
    """The lowest drivers that an image's CUDA runs on, each in its own way; presets.toml says which."""

    full: str
    data_centre: str
    minor_version: str


@dataclass(frozen=True)
class Container:
    """NVIDIA's image that engines are built and served in, what must be in it, and what it asks of a machine."""

    image: str
    tensorrt_llm: str
    tensorrt: str
    cuda: str
    model_repository: str
    """Where a model repository is mounted in it: the C++ backend takes no relative path to its engine."""
    image_bytes: int
    unpacked_bytes: int
    drivers: Drivers


@dataclass(frozen=True)
class Monitoring:
    """Images of the profile `monitoring` of docker/compose.yaml, as NAME:TAG."""

    prometheus: str
    grafana: str


@dataclass(frozen=True)
class Gpu:
    """A GPU to build an engine for, and how much of it the engine may take."""

    name: str
    """As nvidia-smi says it. An engine is for one GPU model only."""
    compute_capability: str
    max_batch_size: int
    kv_cache_tokens: int
    """Size of the KV cache: prefix, requests in flight, and what is left of earlier ones."""
    kv_cache_free_gpu_mem_fraction: float
    """The KV cache takes no more than this share of the memory that is free once the engine is loaded."""

    @property
    def sm(self) -> int:
        """The compute capability as a number, 89 for 8.9."""
        return int(self.compute_capability.replace(".", ""))


@dataclass(frozen=True)
class Vllm:
    """How vLLM serves on a GPU, under vLLM's own names."""

    max_num_seqs: int
    """How many requests are computed together."""
    max_num_batched_tokens: int
    """How many tokens one step computes at most."""
    gpu_memory_utilization: float
    """Share of the whole GPU's memory that vLLM may take: weights, KV cache and what it computes with."""


@dataclass(frozen=True)
class Target:
    """A machine to serve on."""

    name: str
    about: str
    tokens_per_block: int
    intra_op_threads: int = 1
    """Of an engine on a CPU."""
    generation_slots: int = 4
    """Of an engine on a CPU: how many generations progress together. Each slot allocates a KV cache for the longest prompt and answer."""
    max_queue_size: int = 64
    """How many requests may wait at the engine; one more is refused at once."""
    tagger_queue_size: int = 8
    """How many requests may wait at the tagger, besides those that its instances have in hand; one more is refused at once."""
    gpu: Gpu | None = None
    """Set where the engine is TensorRT-LLM's."""
    vllm: Vllm | None = None
    """Set where vLLM serves the AWQ checkpoint itself."""


@dataclass(frozen=True)
class Ports:
    """Where tritonserver listens, on the loopback address."""

    grpc_port: int = 8001
    http_port: int = 8000
    metrics_port: int = 8002


def model(name: str) -> Model:
    """The model preset of that name.

    Raises:
        SettingError: there is none, and the message lists those that exist; or its row has not the fields that it should have.
    """
    row = dict(_row("models", name))
    if base := row.get("tuned_from"):
        # The same model with other weights: it differs in nothing but where it comes from.
        row = {k: v for k, v in _row("models", base).items() if k not in ("hub", "finetune")} | row | {"source": f"checkpoints/{name}/hf"}
    try:
        hub = Hub(**row.pop("hub")) if "hub" in row else None
        finetune = Finetuning(**row.pop("finetune")) if "finetune" in row else None
        return Model(name=name, quantize=Quantization(**row.pop("quantize")), hub=hub, finetune=finetune, **row)
    except (TypeError, KeyError) as error:
        raise SettingError(f"[models.{name}] in presets.toml has not the fields of settings.Model: {error}") from error


def finetuning(base: Model, steps: int | None = None) -> Finetuning:
    """How `base` is taught, with another number of steps if one is given.

    Raises:
        SettingError: its row does not say.
    """
    if base.finetune is None:
        raise SettingError(f"model={base.name} cannot be finetuned: presets.toml has no [models.{base.name}.finetune]")
    return base.finetune if steps is None else replace(base.finetune, steps=steps)


def tuned(base: Model) -> Model:
    """The preset that finetuning `base` makes.

    Raises:
        SettingError: there is none.
    """
    for name, row in _rows("models").items():
        if row.get("tuned_from") == base.name:
            return model(name)
    raise SettingError(f'no model in presets.toml has tuned_from = "{base.name}": add one, or the result has no name')


def target(name: str) -> Target:
    """The target preset of that name. Raises as `model`."""
    row = dict(_row("targets", name))
    try:
        gpu = Gpu(**row.pop("gpu")) if "gpu" in row else None
        vllm = Vllm(**row.pop("vllm")) if "vllm" in row else None
        return Target(name=name, gpu=gpu, vllm=vllm, **row)
    except TypeError as error:
        raise SettingError(f"[targets.{name}] in presets.toml has not the fields of settings.Target: {error}") from error


def container() -> Container:
    """The image that GPU engines are built and served in.

    Raises:
        SettingError: its table has not the fields that it should have.
    """
    row = dict(_rows("container"))
    try:
        return Container(drivers=Drivers(**row.pop("drivers")), **row)
    except (TypeError, KeyError) as error:
        raise SettingError(f"[container] in presets.toml has not the fields of settings.Container: {error}") from error


def monitoring() -> Monitoring:
    """The images that watch the server. Raises as `container`."""
    row = dict(_rows("monitoring"))
    try:
        return Monitoring(**row)
    except TypeError as error:
        raise SettingError(f"[monitoring] in presets.toml has not the fields of settings.Monitoring: {error}") from error


def gpu_index(text: str) -> int:
    """Which GPU of this machine, as nvidia-smi counts them.

    Raises:
        SettingError: it is no such number.
    """
    if not (text.isascii() and text.isdecimal()):
        raise SettingError(f"gpu={text} is not the number of a GPU; nvidia-smi -L lists them, from 0 on")
    return int(text)


def ports(grpc_port: str, http_port: str, metrics_port: str) -> Ports:
    """Ports as given on the command line.

    Raises:
        SettingError: one is not a port number, or two are the same.
    """
    given = {"grpc_port": grpc_port, "http_port": http_port, "metrics_port": metrics_port}
    numbers: dict[str, int] = {}
    for name, text in given.items():
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise SettingError(f"{name}={text} is not a port; give a number from 1 to 65535")
        if int(text) in numbers.values():
            raise SettingError(f"{name}={text} is given twice; the three ports must differ")
        numbers[name] = int(text)
    return Ports(**numbers)


def positive(name: str, text: str) -> int:
    """A setting that is a whole number above zero.

    Raises:
        SettingError: it is not.
    """
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise SettingError(f"{name}={text} is not a whole number above zero")
    return int(text)


def yes_or_no(name: str, text: str) -> bool:
    """A setting that is "yes" or "no".

    Raises:
        SettingError: it is neither.
    """
    if text not in ("yes", "no"):
        raise SettingError(f"{name}={text} is neither yes nor no")
    return text == "yes"


def _row(table: str, name: str) -> Mapping[str, Any]:
    rows = _rows(table)
    if name not in rows:
        known = ", ".join(rows)
        raise SettingError(f"{table[:-1]}={name} is not known; presets.toml has {known}")
    row: Mapping[str, Any] = rows[name]
    return row


def _rows(table: str) -> dict[str, Any]:
    rows: dict[str, Any] = tomllib.loads(PRESETS.read_text(encoding="utf-8"))[table]
    return rows
