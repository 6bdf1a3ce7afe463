"""Words of a command line, quoted for who reads them: Hydra, and a shell before it. Light: imports no torch."""

import re
import shlex
from collections.abc import Iterable

PLAIN = re.compile(r"[\w./:+-]+", re.ASCII)
"""What Hydra takes as it stands."""


def override(key: str, value: object) -> str:
    """key=value for Hydra, whatever is in the value."""
    text = str(value)
    if PLAIN.fullmatch(text):
        return f"{key}={text}"
    # Within quotes a backslash is one of the value's, unless a quote, the end or ${ comes behind it.
    inner = re.sub(r"(\\*)('|\$\{|$)", lambda found: 2 * found[1] + (found[2] and "\\" + found[2]), text)
    return f"{key}='{inner}'"


def pasted(key: str, value: object) -> str:
    """The same for a shell."""
    return shlex.quote(override(key, value))


def forced(words: Iterable[str]) -> list[str]:
    """A command line that resumes may set what its own axes do not have: the saved ones do, and tell what does not fit.

    a.b=c becomes ++a.b=c, which Hydra takes without looking.
    """
    words = list(words)
    if not any(word.startswith("resume=") for word in words):
        return words
    return [f"++{word}" if re.match(r"(?!hydra\.)\w+\.[\w.]+=", word) else word for word in words]
