"""The file that marked lines are kept in: JSON lines as `pika-tag eval` and `doit data=FILE finetune` take them.

A dialogue is in it once: marked again, it has its new labels. Lines that somebody else wrote stay as they are, byte for byte. Nothing of
it is ever sent back to the page.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from build.errors import SourceError
from pika_tagger._files import write_bytes
from pika_tagger._labelled import BadFileError, dialogue_texts, load, parse_object, shortened


def save(path: Path, row: Mapping[str, Any]) -> int:
    """Put one labelled dialogue into the file, which is made if it is not there; return how many are in it now.

    Args:
        path: the file.
        row: the fields of one line, see docs/evaluation.md; checked by whoever calls.

    Raises:
        SourceError: the file has lines that are not labelled dialogues, or cannot be read or written. It is left as it was.
    """
    texts = dialogue_texts(dict(row))
    try:
        if path.exists() and path.read_bytes().strip():
            load(path)  # a file that eval would not take is not made longer
            lines = [line for line in path.read_bytes().splitlines() if line.strip() and dialogue_texts(parse_object(line)) != texts]
        else:
            lines = []
        lines.append(json.dumps(row, ensure_ascii=False).encode())
        write_bytes(path, b"\n".join(lines) + b"\n")
    except BadFileError as error:
        problems = "; ".join(shortened(error.problems))
        raise SourceError(f"{path} is not a file of labelled dialogues, mend it first: {problems}") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read or written ({error.strerror}): give another file with save=FILE") from None
    return len(lines)
