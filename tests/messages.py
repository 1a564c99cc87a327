"""What a message must name, however it is worded."""

from __future__ import annotations

import re


def says(value: object, *more: object) -> re.Pattern[str]:
    r"""A pattern for `match=` and `search`, found where every part stands, in any order.

    Name what a user needs: the bad value, its file or option, and what mends it. Parts are whole
    words: "1" is not in "10".
    """
    parts = (re.escape(str(part)) for part in (value, *more))
    return re.compile("(?s)" + "".join(rf"(?=.*(?<!\w){part}(?!\w))" for part in parts))
