"""Settings, before anything heavy is imported: what they may be, what is meant by them, what they come to.

    words      a command line's words, quoted and corrected        guide     what --help says, out of conf/'s comments
    settings   types with bounds; what a constructor takes         composing conf/ and a command line become settings
    schema     the check of all settings of a run                  lookup    a user's own functions, named in a setting

Called by train.py, by programs beside it and, for types of settings, by every class that conf/ names. Imports nothing
else of costate, and torch in `lookup` only.
"""

from pathlib import Path

import costate

CONF = Path(costate.__file__).parents[2] / "conf"
