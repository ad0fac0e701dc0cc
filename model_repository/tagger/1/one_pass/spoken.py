"""The spoken form of a line: what is left of it when somebody says it aloud.

Pika's line is about to be spoken, and the child's comes from speech recognition, which is careless about capitals, punctuation and
Vietnamese accents. A model that was trained on the spoken form cannot be misled by what it never sees. Which form a checkpoint wants is
said in its `tokenizer_config.json` (see `text.TextCodec.load`); a change of the rules below asks for a new training.
"""

import re
import unicodedata

_INVISIBLE = frozenset({"Mn", "Me", "Cf"})
"""Unicode categories that vanish without leaving a gap: combining and enclosing marks, joiners and other format characters."""
_SAME_LETTER_THRICE = re.compile(r"([^\W\d_])\1{2,}")
_NOT_A_WORD = re.compile(r"[\W_]+")
_BASIC = str.maketrans({"đ": "d", "'": "", "’": "", "ʼ": "", "×": "x", "÷": "/", "−": "-"})
_SIGNS = frozenset("+-*/=<>")
_INSIDE_NUMBERS = frozenset(".,:")
_SENTENCE_ENDS = frozenset(".!;~")


def spoken_form(text: str) -> str:
    """Lower case, no accents, no emoji; a pause between sentences is ` . ` and a question ` ? `, whatever signs stood there.

    Signs between digits stay (sums, decimals, times of day); a letter that is drawn out is written once. Pauses at either end are left out,
    and the result may be empty: a line of emoji alone says nothing.
    """
    decomposed = unicodedata.normalize("NFKD", text).lower()
    bare = "".join(c for c in decomposed if unicodedata.category(c) not in _INVISIBLE).translate(_BASIC)
    words = _NOT_A_WORD.sub(_pause, bare)
    return _SAME_LETTER_THRICE.sub(r"\1", words).strip(" .")


def _pause(found: re.Match[str]) -> str:
    run = found[0]
    sign = run.strip()
    if found.string[found.start() - 1 : found.start()].isdigit() and found.string[found.end() : found.end() + 1].isdigit():
        if sign in _SIGNS:
            return sign
        if run in _INSIDE_NUMBERS:
            return run
    if "?" in run:
        return " ? "
    return " . " if not _SENTENCE_ENDS.isdisjoint(run) else " "
