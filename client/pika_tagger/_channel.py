"""The one place where the connection to the server is made.

Whatever concerns the transport belongs here and nowhere else: addresses, options, later certificates and several servers.
"""

import re

from tritonclient.grpc import InferenceServerClient

from pika_tagger._errors import InvalidSettingError

MAX_MESSAGE_BYTES = 1 << 20
"""Limit of one request and one answer: a dialogue is a few hundred bytes, the model's configuration a few thousand."""

# A given `channel_args` replaces tritonclient's own options altogether, so message sizes and keepalive are repeated here.
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Triton counts pings closer than 5 minutes as abuse and hangs up after the third ("too_many_pings"), hence a longer period. Its real
    # use is the timeout: once keepalive is on, gRPC also gives up a connection on which sent bytes stay unacknowledged that long
    # (TCP_USER_TIMEOUT). A robot that changes its network is connected again after 5 s instead of a quarter of an hour.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # gRPC's own pauses between attempts grow to 2 minutes: too long for a child who waits for a restarted server. It adds jitter itself.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Dialogues go to the given address only, not through a proxy that happens to be in the environment.
    ("grpc.enable_http_proxy", 0),
)

_ADDRESS = re.compile(r"(?:dns:///)?(?:\[[0-9a-fA-F:.]+\]|[^\s/:\[\]]+):\d{1,5}")


def open_channel(url: str) -> InferenceServerClient:
    """Return a client for `url`; it connects with the first call, not here.

    Raises:
        InvalidSettingError: `url` is not HOST:PORT.
    """
    if not isinstance(url, str) or not _ADDRESS.fullmatch(url):
        raise InvalidSettingError(
            f"url {url!r} cannot work: give HOST:PORT of Triton's gRPC endpoint, for example localhost:8001 "
            "(without http://, and not the HTTP port, which is 8000 by default)"
        )
    return InferenceServerClient(url, channel_args=list(_OPTIONS))
