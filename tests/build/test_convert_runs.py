"""How `build.convert` behaves as a program: memory, interruption, repetition, command line."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from build import ROOT, convert, manifest
from build.trtllm_layout import GPTQ, LAYOUTS
from tests.support import awq_checkpoints
from tests.support.awq_checkpoints import Phi3Size

CONVERT_AND_MEASURE = """
import sys
from pathlib import Path
from build.convert import convert
from build.trtllm_layout import LAYOUTS

def peak_bytes():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

before = peak_bytes()
convert(Path(sys.argv[1]), Path(sys.argv[2]), layout=LAYOUTS[sys.argv[3]])
print(before, peak_bytes())
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_result_has_a_manifest_and_nothing_else(tmp_path: Path) -> None:
    made = convert.convert(awq_checkpoints.write_random(tmp_path / "awq"), tmp_path / "out")
    assert made == manifest.verify_contents(tmp_path / "out")
    assert made.stage == "convert"
    assert made.files.keys() == {"config.json", "rank0.safetensors"}
    assert made.facts["trtllm_version"] == "1.0.0"
    assert made.facts["tensors"] == len(load_file(tmp_path / "out" / "rank0.safetensors")) == 3 + 2 * 14
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "manifest.json", "rank0.safetensors"]


def test_manifest_says_which_layout_it_is_and_for_which_gpus(tmp_path: Path) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "awq")
    made = convert.convert(awq_dir, tmp_path / "out")
    assert (made.settings["layout"], made.settings["quant_algo"], made.facts["sms"]) == ("awq", "W4A16_AWQ", None)
    made = convert.convert(awq_dir, tmp_path / "out", layout=GPTQ)
    assert made == manifest.verify_contents(tmp_path / "out")
    assert (made.settings["layout"], made.settings["quant_algo"], made.facts["sms"]) == ("gptq", "W4A16_GPTQ", [80, 89])


def test_inputs_are_hashes_of_what_was_read(tmp_path: Path) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "awq", shards=2)
    made = convert.convert(awq_dir, tmp_path / "out")
    files = ("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    assert made.inputs == {name: manifest.sha256_of(awq_dir / name) for name in files}
    sealed = manifest.seal(awq_dir, "quantize", {}, {}, list(files))
    assert convert.convert(awq_dir, tmp_path / "out").inputs == {"awq": sealed.content_hash}
    assert convert.convert(awq_dir, tmp_path / "out", inputs={"awq": "abc"}).inputs == {"awq": "abc"}


def test_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "awq")
    first = convert.convert(awq_dir, tmp_path / "out")
    assert convert.convert(awq_dir, tmp_path / "out").files == first.files


def test_shards_make_no_difference(tmp_path: Path) -> None:
    one = convert.convert(awq_checkpoints.write_random(tmp_path / "one", shards=1), tmp_path / "from-one")
    three = convert.convert(awq_checkpoints.write_random(tmp_path / "three", shards=3), tmp_path / "from-three")
    assert one.files == three.files


def test_float32_embedding_is_rounded(tmp_path: Path) -> None:
    size = Phi3Size(layers=1)
    tensors = awq_checkpoints.random_tensors(size)
    exact = np.random.default_rng(1).normal(size=(size.vocab, size.hidden)).astype(np.float32)
    tensors["model.embed_tokens.weight"] = exact
    convert.convert(awq_checkpoints.write(tmp_path / "awq", awq_checkpoints.hf_config(size), tensors), tmp_path / "out")
    written = load_file(tmp_path / "out" / "rank0.safetensors")["transformer.vocab_embedding.weight"]
    np.testing.assert_array_equal(written, exact.astype(np.float16))


def test_blocks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "awq")
    whole = convert.convert(awq_dir, tmp_path / "whole")
    monkeypatch.setattr("build.safetensors_stream.BLOCK_BYTES", 3 * 128 * 2)
    assert convert.convert(awq_dir, tmp_path / "blocks").files == whole.files


def test_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(layer: int, n_layers: int) -> None:
        raise KeyboardInterrupt

    awq_dir = awq_checkpoints.write_random(tmp_path / "awq")
    with pytest.raises(KeyboardInterrupt):
        convert.convert(awq_dir, tmp_path / "out", progress=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "awq"]
    made = convert.convert(awq_dir, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        convert.convert(awq_checkpoints.write_random(tmp_path / "other", seed=1), tmp_path / "out", progress=interrupt)
    assert manifest.verify_contents(tmp_path / "out") == made


def test_incomplete_result_is_mended(tmp_path: Path) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "awq")
    made = convert.convert(awq_dir, tmp_path / "out")
    (tmp_path / "out" / "rank0.safetensors").unlink()
    assert convert.convert(awq_dir, tmp_path / "out").files == made.files


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_stays_far_below_the_size_of_the_model(tmp_path: Path, layout: str) -> None:
    size = Phi3Size(vocab=65536, hidden=1024, intermediate=4096, layers=24, heads=16, kv_heads=16)
    awq_dir = awq_checkpoints.write_sparse(tmp_path / "awq", size)
    model_bytes = (awq_dir / "model.safetensors").stat().st_size
    embedding_bytes = size.vocab * size.hidden * 2
    assert model_bytes > 400e6
    done = python("-c", CONVERT_AND_MEASURE, str(awq_dir), str(tmp_path / "out"), layout)
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    # What there is at once: the pages mapped for the embedding, a block of it, and the unpacked arrays of one linear layer.
    assert after - before < 1.5 * embedding_bytes + 32e6 < model_bytes / 2
    (tmp_path / "out" / "rank0.safetensors").unlink()


def test_needs_neither_torch_nor_transformers() -> None:
    done = python("-c", "import sys, build.convert; print(sorted({'torch', 'transformers', 'awq'} & sys.modules.keys()))")
    assert done.stdout == "[]\n"


def test_command_line(tmp_path: Path) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "awq")
    done = python("-m", "build.convert", str(awq_dir), str(tmp_path / "out"))
    assert (done.returncode, done.stderr) == (0, "")
    first, second, last = done.stdout.splitlines()
    assert (first, second) == ("layer 1/2", "layer 2/2")
    n_bytes = sum((tmp_path / "out" / name).stat().st_size for name in ("config.json", "rank0.safetensors"))
    assert re.fullmatch(rf"{re.escape(str(tmp_path / 'out'))}: 31 tensors, {n_bytes / 1e6:.1f} MB, \d+\.\d s", last)


def test_command_line_failure(tmp_path: Path) -> None:
    done = python("-m", "build.convert", str(tmp_path), str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path}/config.json is missing: give the folder that AutoAWQ saved the model in\n"


def test_command_line_reports_what_the_system_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "awq")
    (tmp_path / "file").touch()
    assert convert.main([str(awq_dir), str(tmp_path / "file" / "out")]) == 1
    assert capsys.readouterr().err == f"error: [Errno 17] File exists: '{tmp_path / 'file'}'\n"


def test_command_line_with_a_layout(tmp_path: Path) -> None:
    awq_dir = awq_checkpoints.write_random(tmp_path / "awq")
    assert convert.main([str(awq_dir), str(tmp_path / "out"), "--layout", "gptq"]) == 0
    assert manifest.read(tmp_path / "out").files == convert.convert(awq_dir, tmp_path / "same", layout=GPTQ).files


@pytest.mark.parametrize("arguments", [[], ["one"], ["one", "two", "three"], ["one", "two", "--layout", "gemv"]])
def test_command_line_misuse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        convert.main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m build.convert" in capsys.readouterr().err
