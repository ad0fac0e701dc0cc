"""Presets are complete, and settings that cannot work are refused by name."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from build import ROOT, settings
from build.errors import SettingError
from build.settings import Finetuning, Hub, Model, Ports, Quantization, Target


def test_the_embedded_model_is_used_where_it_lies() -> None:
    model = settings.model("pika-tiny")
    assert isinstance(model.quantize, Quantization)
    assert model.source == "checkpoints/pika-tiny/hf"
    assert ROOT / model.source == model.folder / "hf"
    assert model.hub is None


def test_phi_3_mini_is_pinned_to_a_commit() -> None:
    model = settings.model("phi-3-mini")
    assert model.source is None
    assert model.hub is not None
    assert model.hub.repo == "microsoft/Phi-3-mini-4k-instruct"
    assert re.fullmatch(r"[0-9a-f]{40}", model.hub.revision)


@pytest.mark.parametrize("name", ["pika-tiny", "phi-3-mini", "pika-tiny-tuned", "phi-3-mini-tuned"])
def test_every_model_has_a_task_and_a_place(name: str) -> None:
    model = settings.model(name)
    assert (model.name, model.folder) == (name, settings.CHECKPOINTS / name)
    assert model.task_file.is_file()
    assert model.about != ""
    assert model.quantize.calibration_samples > 0


def test_the_cpu_target_says_its_block_size_and_threads() -> None:
    target = settings.target("cpu")
    assert isinstance(target, Target)
    assert (target.name, target.intra_op_threads) == ("cpu", 1)
    assert target.tokens_per_block.bit_count() == 1  # KV-cache blocks are powers of two


@pytest.mark.parametrize(
    ("name", "gpu", "sm"), [("l4", "NVIDIA L4", 89), ("rtx3090", "NVIDIA GeForce RTX 3090", 86), ("a10g", "NVIDIA A10G", 86)]
)
def test_gpu_targets_name_their_gpu_and_claim_nothing(name: str, gpu: str, sm: int) -> None:
    target = settings.target(name)
    assert target.gpu is not None
    assert (target.gpu.name, target.gpu.sm) == (gpu, sm)
    assert 0 < target.gpu.kv_cache_free_gpu_mem_fraction < 1
    assert "not run by anyone yet" in target.about
    # Calibration prompts are padded to blocks: one size for all targets, or a change of target would mean quantizing again.
    assert target.tokens_per_block == settings.target("cpu").tokens_per_block


def test_the_container_is_pinned_and_says_what_is_in_it() -> None:
    container = settings.container()
    assert re.fullmatch(r"nvcr\.io/nvidia/tritonserver:\d\d\.\d\d-trtllm-python-py3", container.image)
    assert (container.tensorrt_llm, container.tensorrt, container.cuda) == ("1.0.0", "10.11.0.33", "12.9")
    assert Path(container.model_repository).is_absolute()


@pytest.mark.parametrize("name", ["pika-tiny", "phi-3-mini", "phi-3-mini-tuned"])
def test_no_request_is_longer_than_the_model_can_look_back(name: str) -> None:
    lengths = {"pika-tiny": 1024, "phi-3-mini": 2047, "phi-3-mini-tuned": 2047}
    assert 0 < settings.model(name).max_seq_len <= lengths[name]


@pytest.mark.parametrize("text", ["", "-1", "all", "0,1", "²", "GPU-1"])
def test_what_is_not_the_number_of_a_gpu_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match=rf"^gpu={re.escape(text)} is not the number of a GPU; nvidia-smi -L lists them"):
        settings.gpu_index(text)


def test_gpus_are_counted_from_nought() -> None:
    assert [settings.gpu_index(text) for text in ("0", "2")] == [0, 2]


def test_a_row_of_the_file_is_what_the_dataclass_holds(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    presets = tmp_path_factory.mktemp("presets") / "presets.toml"
    presets.write_text(
        '[models.mine]\nabout = "x"\ntask = "t"\nhub = { repo = "me/mine", revision = "abc" }\n'
        "[models.mine.quantize]\ncalibration_samples = 4\nseed = 1\nsearch_clipping = true\nduo_scaling = false\n"
    )
    monkeypatch.setattr(settings, "PRESETS", presets)
    quantize = Quantization(calibration_samples=4, seed=1, search_clipping=True, duo_scaling=False)
    assert settings.model("mine") == Model("mine", "x", "t", quantize, hub=Hub("me/mine", "abc"))


FINETUNE = (
    "steps = 3\nlearning_rate = 0.5\nbatch_size = 4\npasses_per_step = 2\ndropout = 0.1\nown_share = 0.3\n"
    "validate_every_steps = 5\nvalidation_dialogues = 6\nseed = 7\n"
)


@pytest.fixture
def presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "presets.toml"
    monkeypatch.setattr(settings, "PRESETS", path)
    path.write_text(
        '[models.mine]\nabout = "x"\ntask = "t"\nhub = { repo = "me/mine", revision = "abc" }\n'
        f"[models.mine.quantize]\ncalibration_samples = 4\nseed = 1\nsearch_clipping = true\nduo_scaling = false\n"
        f"[models.mine.finetune]\n{FINETUNE}"
        '[models.taught]\nabout = "y"\ntuned_from = "mine"\n'
    )
    return path


@pytest.mark.usefixtures("presets")
def test_how_a_model_is_finetuned_stands_in_its_row() -> None:
    plan = settings.finetuning(settings.model("mine"))
    assert plan == Finetuning(3, 0.5, 4, 2, 0.1, 0.3, 5, 6, 7)
    assert plan.lora_rank is None


def test_an_adapter_has_the_rank_that_the_row_says(presets: Path) -> None:
    presets.write_text(presets.read_text().replace("seed = 7\n", "seed = 7\nlora_rank = 2\n"))
    assert settings.finetuning(settings.model("mine")).lora_rank == 2


@pytest.mark.usefixtures("presets")
def test_the_number_of_steps_can_be_another() -> None:
    model = settings.model("mine")
    assert settings.finetuning(model, 9) == replace(settings.finetuning(model), steps=9)


@pytest.mark.usefixtures("presets")
def test_a_tuned_model_is_its_base_with_a_checkpoint_of_its_own() -> None:
    base, tuned = settings.model("mine"), settings.tuned(settings.model("mine"))
    assert tuned == Model("taught", "y", "t", base.quantize, source="checkpoints/taught/hf", tuned_from="mine")


def test_a_tuned_model_may_differ_from_its_base(presets: Path) -> None:
    presets.write_text(presets.read_text() + 'task = "another"\n')
    assert (settings.model("taught").task, settings.model("mine").task) == ("another", "t")


def test_the_models_that_can_be_finetuned_have_a_place_for_the_result() -> None:
    for name in ("pika-tiny", "phi-3-mini"):
        tuned = settings.tuned(settings.model(name))
        assert (tuned.name, tuned.tuned_from) == (f"{name}-tuned", name)
        assert ROOT / (tuned.source or "") == tuned.folder / "hf"


def test_a_model_that_cannot_be_finetuned_is_refused_with_what_is_missing() -> None:
    with pytest.raises(SettingError, match=r"^model=pika-tiny-tuned cannot be .* no \[models\.pika-tiny-tuned\.finetune\]$"):
        settings.finetuning(settings.model("pika-tiny-tuned"))
    with pytest.raises(SettingError, match=r'no model in presets\.toml has tuned_from = "pika-tiny-tuned": add one'):
        settings.tuned(settings.model("pika-tiny-tuned"))


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("mine", "steps = 3\n", "", r"^\[models\.mine\] in presets\.toml .* 'steps'"),
        ("mine", "steps = 3\n", "steps = 3\nstep = 4\n", r"^\[models\.mine\] in presets\.toml .* 'step'"),
        ("taught", '"mine"\n', '"other"\n', r"^model=other is not known; presets\.toml has mine, taught$"),
    ],
)
def test_a_row_that_is_not_as_it_should_be_is_refused(presets: Path, name: str, old: str, new: str, problem: str) -> None:
    presets.write_text(presets.read_text().replace(old, new))
    with pytest.raises(SettingError, match=problem):
        settings.model(name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[targets.mine]\nabout = "x"\ntokens_per_block = 32\n[targets.mine.gpu]\nname = "y"\n', r"^\[targets\.mine\] .* settings\.Target"),
        ('[targets.mine]\nabout = "x"\n', r"^\[targets\.mine\] .*'tokens_per_block'"),
    ],
)
def test_a_target_that_lacks_something_is_refused(presets: Path, text: str, words: str) -> None:
    presets.write_text(text)
    with pytest.raises(SettingError, match=words):
        settings.target("mine")


@pytest.mark.parametrize("text", ['image = "x"', 'image = "x"\n[container.drivers]\nfull = "575"'])
def test_a_container_that_lacks_something_is_refused(presets: Path, text: str) -> None:
    presets.write_text(f"[container]\n{text}\n")
    with pytest.raises(SettingError, match=r"^\[container\] in presets\.toml .* settings\.Container"):
        settings.container()


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1e3", " 1", "1_000", "²", "٣", "many"])
def test_what_is_not_a_whole_number_above_zero_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingError, match=rf"^steps={re.escape(text)} is not a whole number above zero$"):
        settings.positive("steps", text)


def test_whole_numbers_above_zero_are_taken() -> None:
    assert [settings.positive("steps", text) for text in ("1", "0500")] == [1, 500]


@pytest.mark.parametrize("name", ["", "pika", "Phi-3-Mini", "../pika-tiny"])
def test_an_unknown_model_is_refused_with_those_that_exist(name: str) -> None:
    with pytest.raises(SettingError, match=rf"^model={re.escape(name)} is not known; presets\.toml has pika-tiny, phi-3-mini"):
        settings.model(name)


def test_an_unknown_target_is_refused_with_those_that_exist() -> None:
    with pytest.raises(SettingError, match=r"^target=tpu is not known; presets\.toml has .*\bcpu\b"):
        settings.target("tpu")


def test_ports_are_the_usual_ones_of_triton() -> None:
    assert settings.ports("8001", "8000", "8002") == Ports() == Ports(grpc_port=8001, http_port=8000, metrics_port=8002)


@pytest.mark.parametrize("given", ["1", "65535"])
def test_the_whole_range_of_ports_is_allowed(given: str) -> None:
    assert settings.ports(given, "8000", "8002").grpc_port == int(given)


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "+1", "8001.0", "8_001", " 8001", "http", "²"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_what_is_not_a_port_is_refused_by_name(text: str, position: int) -> None:
    given = ["8001", "8000", "8002"]
    given[position] = text
    name = ("grpc_port", "http_port", "metrics_port")[position]
    with pytest.raises(SettingError, match=rf"^{name}={re.escape(text)} is not a port; give a number from 1 to 65535$"):
        settings.ports(*given)


@pytest.mark.parametrize(
    ("given", "name"),
    [(("9000", "9000", "8002"), "http_port"), (("9000", "1", "9000"), "metrics_port"), (("1", "2", "02"), "metrics_port")],
)
def test_the_same_port_twice_is_refused(given: tuple[str, str, str], name: str) -> None:
    with pytest.raises(SettingError, match=rf"^{name}=\d+ is given twice; the three ports must differ$"):
        settings.ports(*given)


def test_yes_and_no_are_the_only_answers() -> None:
    assert settings.yes_or_no("dry_run", "yes") is True
    assert settings.yes_or_no("dry_run", "no") is False
    for text in ("", "Yes", "true", "1"):
        with pytest.raises(SettingError, match=f"^dry_run={text} is neither yes nor no$"):
            settings.yes_or_no("dry_run", text)
