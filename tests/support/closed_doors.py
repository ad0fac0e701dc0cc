"""Ways into a tritonserver that robots have no use for: each tries to do something over gRPC or HTTP, with or without the key.

The protocols' names are those of --grpc-restricted-protocol; a new one is added here with the call that would use it.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from tritonclient.grpc import InferenceServerClient

from build.serve import Server
from build.server_options import GRPC_KEY_HEADER, KEY_NAME, LOOPBACK

Attempt = Callable[[InferenceServerClient, dict[str, str]], Any]

GRPC: dict[str, Attempt] = {
    "list of models": lambda client, headers: client.get_model_repository_index(headers=headers),
    "load": lambda client, headers: client.load_model("tagger", headers=headers),
    "unload": lambda client, headers: client.unload_model("tagger", headers=headers),
    "system shared memory": lambda client, headers: client.get_system_shared_memory_status(headers=headers),
    "register shared memory": lambda client, headers: client.register_system_shared_memory("a", "/absent", 1, headers=headers),
    "CUDA shared memory": lambda client, headers: client.get_cuda_shared_memory_status(headers=headers),
    "trace settings": lambda client, headers: client.get_trace_settings(headers=headers),
    "trace to a file": lambda client, headers: client.update_trace_settings(
        settings={"trace_level": ["TENSORS"], "trace_file": "/tmp/absent/trace"}, headers=headers
    ),
    "log settings": lambda client, headers: client.get_log_settings(headers=headers),
    "verbose log": lambda client, headers: client.update_log_settings({"log_verbose_level": 1}, headers=headers),
    "statistics": lambda client, headers: client.get_inference_statistics("tagger", headers=headers),
}
"""By what they do. "load" and "unload" are refused even with the key, "register shared memory" fails for want of the region."""

HTTP: dict[str, tuple[str, dict[str, Any] | None]] = {
    "list of models": ("repository/index", {}),
    "load": ("repository/models/tagger/load", {}),
    "unload": ("repository/models/tagger/unload", {}),
    "system shared memory": ("systemsharedmemory/status", None),
    "register shared memory": ("systemsharedmemory/region/a/register", {"key": "/absent", "offset": 0, "byte_size": 1}),
    "CUDA shared memory": ("cudasharedmemory/status", None),
    "trace settings": ("trace/setting", None),
    "trace to a file": ("trace/setting", {"trace_level": ["TENSORS"], "trace_file": "/tmp/absent/trace"}),
    "log settings": ("logging", None),
    "verbose log": ("logging", {"log_verbose_level": 1}),
    "statistics": ("models/tagger/stats", None),
}
"""The same over HTTP: path below /v2/, and the body of a POST, or None for a GET."""

READ_ONLY = ("list of models", "system shared memory", "trace settings", "log settings", "statistics")
"""Those that work with the key and change nothing. Without a GPU the server has no CUDA shared memory."""


def grpc_key(key: str) -> dict[str, str]:
    """The header that opens restricted protocols over gRPC."""
    return {GRPC_KEY_HEADER: key}


def http_status(server: Server, name: str, key: str | None = None) -> int:
    """What HTTP answers to an attempt."""
    path, body = HTTP[name]
    request = urllib.request.Request(
        f"http://{LOOPBACK}:{server.ports.http_port}/v2/{path}",
        None if body is None else json.dumps(body).encode(),
        {} if key is None else {KEY_NAME: key},
    )
    try:
        with urllib.request.urlopen(request) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
