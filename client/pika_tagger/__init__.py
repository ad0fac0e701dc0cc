"""Ask the tagger which face Pika shows, and whether to celebrate.

    from pika_tagger import TaggerClient

    with TaggerClient("gpu-box:8001") as tagger:
        tag = tagger.tag(user_last_message="2+2=4", pika_response="Chính xác! Cậu giỏi quá!")
        print(tag.emotion_name, tag.celebrate)

What is listed in `__all__` is the promise to robots; everything in modules that start with an underscore may change in any release.
"""

from pika_tagger._async_client import AsyncTaggerClient
from pika_tagger._channel import Tls
from pika_tagger._client import TaggerClient
from pika_tagger._errors import (
    AccessDeniedError,
    ClientClosedError,
    InvalidRequestError,
    InvalidSettingError,
    ServerBusyError,
    ServerError,
    TaggerConnectionError,
    TaggerError,
    TaggerTimeoutError,
    VersionWarning,
)
from pika_tagger._types import Counts, Dialogue, ServerInfo, Tag
from pika_tagger._version import __version__ as __version__

__all__ = [
    "AccessDeniedError",
    "AsyncTaggerClient",
    "ClientClosedError",
    "Counts",
    "Dialogue",
    "InvalidRequestError",
    "InvalidSettingError",
    "ServerBusyError",
    "ServerError",
    "ServerInfo",
    "Tag",
    "TaggerClient",
    "TaggerConnectionError",
    "TaggerError",
    "TaggerTimeoutError",
    "Tls",
    "VersionWarning",
]
