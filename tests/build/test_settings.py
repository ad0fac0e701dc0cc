"""Presets are complete, and settings that cannot work are refused by name."""

import re

import pytest

from build import ROOT, settings
from build.errors import SettingError
from build.settings import Hub, Model, Ports, Quantization, Target


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


@pytest.mark.parametrize("name", ["pika-tiny", "phi-3-mini"])
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


def test_a_row_of_the_file_is_what_the_dataclass_holds(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    presets = tmp_path_factory.mktemp("presets") / "presets.toml"
    presets.write_text(
        '[models.mine]\nabout = "x"\ntask = "t"\nhub = { repo = "me/mine", revision = "abc" }\n'
        "[models.mine.quantize]\ncalibration_samples = 4\nseed = 1\nsearch_clipping = true\n"
    )
    monkeypatch.setattr(settings, "PRESETS", presets)
    quantize = Quantization(calibration_samples=4, seed=1, search_clipping=True)
    assert settings.model("mine") == Model("mine", "x", "t", quantize, hub=Hub("me/mine", "abc"))


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
