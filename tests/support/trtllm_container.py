"""A `docker` for machines without one: it takes the options that we give it, and refuses what the tools in NVIDIA's image would refuse.

The file is copied under the name `docker`. What the tools say, and whether they fail, is in the file `says.json` beside it. The flags of
trtllm-build are those of TensorRT-LLM 1.0.0; an unknown one ends it with status 2, as argparse does there.
"""

import argparse
import json
import sys
import time
from pathlib import Path

SAYS = "says.json"
DOCKER_OPTIONS = ("--gpus", "--user", "--env", "--shm-size", "--ulimit", "--mount", "--workdir")
SWITCH = ("enable", "disable")
DTYPES = ("auto", "float16", "float32", "bfloat16", "int32", "disable")
NUMBERS = ("max_batch_size", "max_input_len", "max_seq_len", "max_num_tokens", "opt_num_tokens", "max_beam_width", "workers")
PATHS = ("checkpoint_dir", "output_dir", "input_timing_cache", "output_timing_cache")
SWITCHES = ("context_fmha", "remove_input_padding", "use_paged_context_fmha", "multiple_profiles", "use_fused_mlp", "reduce_fusion")
CHOICES = {
    "kv_cache_type": ("continuous", "paged", "disabled"),
    "logits_dtype": ("float16", "float32"),
    "log_level": ("internal_error", "error", "warning", "info", "verbose", "debug", "trace"),
    "profiling_verbosity": ("layer_names_only", "detailed", "none"),
    "gpt_attention_plugin": DTYPES,
    "gemm_plugin": (*DTYPES, "fp8", "nvfp4"),
    **dict.fromkeys(SWITCHES, SWITCH),
}


def trtllm_build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trtllm-build", allow_abbrev=False)
    for name in NUMBERS:
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--tokens_per_block", type=int, choices=[1 << power for power in range(3, 9)])
    for name in PATHS:
        parser.add_argument(f"--{name}", type=Path)
    for name, choices in CHOICES.items():
        parser.add_argument(f"--{name}", choices=choices)
    return parser


def parse_docker(arguments: list[str]) -> tuple[dict[str, list[str]], str, list[str]]:
    """Options of `docker run`, the image, and the command inside it."""
    if arguments[0] != "run":
        sys.exit(125)
    options: dict[str, list[str]] = {}
    rest = arguments[1:]
    while rest[0].startswith("-"):
        name = rest.pop(0)
        if name in ("--rm", "--init"):
            options[name] = []
        elif name in DOCKER_OPTIONS:
            options.setdefault(name, []).append(rest.pop(0))
        else:
            sys.exit(f"unknown flag: {name}")
    return options, rest[0], rest[1:]


def mounts(options: dict[str, list[str]]) -> dict[Path, bool]:
    """Folder -> whether it may be written to. Docker refuses to mount what does not exist."""
    found = {}
    for text in options["--mount"]:
        fields = dict(field.partition("=")[::2] for field in text.split(","))
        if fields["type"] != "bind" or fields["source"] != fields["target"] or not Path(fields["source"]).is_dir():
            sys.exit(f"docker: invalid mount config: {text}")
        found[Path(fields["target"])] = "readonly" not in fields
    return found


def writable(path: Path, seen: dict[Path, bool]) -> bool:
    """Whether the container could write there; the innermost mount decides."""
    inside = [folder for folder in seen if folder == path or folder in path.parents]
    return bool(inside) and seen[max(inside, key=lambda folder: len(folder.parts))]


def build(arguments: list[str], seen: dict[Path, bool], says: dict[str, str]) -> None:
    given = trtllm_build_parser().parse_args(arguments)
    places = (given.output_dir, given.output_timing_cache)
    if not all(writable(path, seen) for path in places) or writable(given.checkpoint_dir, seen):
        sys.exit("a folder is mounted in the wrong way")
    print("[TensorRT-LLM] TensorRT-LLM version: 1.0.0", flush=True)
    print(says.get("log", ""), flush=True)
    time.sleep(float(says.get("build_s", "0")))
    if says.get("status"):
        sys.exit(int(says["status"]))
    given.output_timing_cache.write_text("timings")
    given.output_dir.mkdir(exist_ok=True)
    (given.output_dir / "config.json").write_text(json.dumps({"version": says.get("engine_version", "1.0.0")}))
    (given.output_dir / "rank0.engine").write_text(says.get("engine", "an engine"))


def main() -> None:
    home = Path(sys.argv[0]).parent
    says: dict[str, str] = json.loads((home / SAYS).read_text())
    with (home / "calls.jsonl").open("a") as calls:
        print(json.dumps(sys.argv[1:]), file=calls)
    options, _, (tool, *arguments) = parse_docker(sys.argv[1:])
    if tool == "python3":
        print("=== a banner ===\n")
        print(says.get("versions", "1.0.0 10.11.0.33"))
    elif tool == "nvidia-smi":
        if "smi_error" in says:
            print(says["smi_error"], file=sys.stderr)
            sys.exit(125)
        print("=== a banner ===\n")
        print(says.get("gpu", "NVIDIA L4, 8.9, 570.124.06"))
    elif tool == "trtllm-build":
        build(arguments, mounts(options), says)
    else:
        sys.exit(127)


if __name__ == "__main__":
    main()
