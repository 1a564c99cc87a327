"""Exit codes of all commands, and user errors as one line.

Standard library alone, so that ``fgclip-det --help`` answers where nothing else imports.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection

EXIT_USER_ERROR = 2
# What a shell gives a command that Ctrl-C ended.
EXIT_INTERRUPTED = 130

_WORKER_ERROR = re.compile(r"Caught \w+ in \w+ worker process \d+\.\s+Original Traceback")
_UNEXPECTED_ARGUMENT = re.compile(r"unexpected keyword argument '(\w+)'")


def run_tool(main: Callable[[], int | None], cfg_options: Collection[str] | None = None) -> int:
    """Run a command: errors of the user's become one line and exit code 2, bugs keep a traceback.

    Ctrl-C is one line too, and exit code 130.

    Args:
        main: The command; it may return an exit code of its own.
        cfg_options: Dotted keys that the user set; an argument that no class knows is the user's
            error if it is among them.
    """
    try:
        return main() or 0
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (ValueError, OSError) as error:
        message = _message(error)
    except TypeError as error:
        name = _UNEXPECTED_ARGUMENT.search(str(error))
        keys = [key for key in cfg_options or () if name and name[1] in key.split(".")]
        if not keys:
            raise
        message = f"--cfg-options: {keys[0]!r} sets {name[1]!r}, which is unknown: {error}"
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_USER_ERROR


def _message(error: Exception) -> str:
    message = str(error)
    if _WORKER_ERROR.match(message):
        # A data loader's worker sends its traceback as the text; the error is the last line.
        message = message.strip().splitlines()[-1].partition(": ")[2]
    if isinstance(error, FileNotFoundError):
        message += ": check the paths in the config"
    elif isinstance(error, NotADirectoryError):
        message += ": a part of this path is a file, name another"
    return message
