"""Overrides that programs give to Hydra, whatever is in their values. Light: imports nothing."""

import re


def override(key: str, value: object) -> str:
    r"""key='value', which Hydra reads as it is: with commas, quotes, backslashes, =, and ${...} in it.

    Within quotes a backslash is one of the value's, unless a quote, the end or ${ comes behind it.
    """
    text = re.sub(r"(\\*)('|\$\{|$)", lambda found: 2 * found[1] + (found[2] and "\\" + found[2]), str(value))
    return f"{key}='{text}'"
