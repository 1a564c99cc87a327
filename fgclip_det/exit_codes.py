"""Exit codes of all commands, errors as one line, and lines that no name can garble.

======  ====================================================================================
code    meaning
======  ====================================================================================
0       all was done
1       the disk or the memory is full, or a bug, which has its traceback
2       nothing was done: the user can mend it
3       a part was done
4       another of the processes that share the work ended, and tells why
130     interrupted, as a shell says it
141     standard output was closed, as by ``| head``
======  ====================================================================================

Standard library alone, so that ``fgclip-det --help`` answers where nothing else imports.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import errno
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, TextIO

EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_PARTLY_DONE = 3
EXIT_OTHER_PROCESS = 4
EXIT_INTERRUPTED = 130
EXIT_CLOSED = 141

# Control characters, what turns the direction of a line, line ends, and bytes that are no UTF-8.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MOST_NOTES = 20
_LONGEST_ERROR = 1800
_SOON = 0.02  # seconds, after which an interrupt that got lost is sent again
_AFTER_THE_OTHER = 5  # seconds
_OPENMMLAB = ("mmcv", "mmdet", "mmengine")
_VIDEO = ("av", "supervision", "trackers")
_WEB = ("fastapi", "nicegui", "socketio", "starlette", "uvicorn")
_WORKER_ERROR = re.compile(r"Caught \w+ in \w+ worker process \d+\.\s+Original Traceback")
# What torch says of a worker that ended, and of one for which no lack of memory is the reason.
_LOST_WORKER = re.compile(r"DataLoader worker \(pid.*?\) (?:exited unexpectedly|is killed)")
_FAULTY_WORKER = re.compile(r"with exit code|by signal: (?!Killed|Bus error)")
# What MMEngine raises where a config holds what it does not expect.
_OF_SETTINGS = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError)
_UNEXPECTED_ARGUMENT = re.compile(r"unexpected keyword argument '(\w+)'")


class OtherProcessError(ConnectionError):
    """Another of the processes that share the work ended, and this one cannot go on without it."""


class Parser(argparse.ArgumentParser):
    """argparse's, that repeats what was typed as escapes, and fails where nobody reads it."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with 2."""
        super().error(printable(message))

    def _print_message(self, message: str, file: TextIO | None = None) -> None:
        stream = file or sys.stderr
        if message and stream is not None:
            stream.write(message)


def printable(text: str) -> str:
    """A text in which characters that steer a terminal are escapes, line ends among them."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def say(*lines: str, file: TextIO | None = None) -> None:
    """Print lines, to standard output by default; each stays one, whatever names it holds."""
    stream = sys.stdout if file is None else file
    encoding = getattr(stream, "encoding", None) or "utf-8"
    for line in lines:
        # What this terminal has no letters for is an escape too.
        print(printable(line).encode(encoding, "backslashreplace").decode(encoding), file=stream)


def say_error(message: str) -> None:
    """Print a line on standard error; the middle of one without end, of a path say, is left out."""
    text = " ".join(message.split())
    if len(text) > _LONGEST_ERROR:
        half = _LONGEST_ERROR // 2
        text = f"{text[:half]} ... {text[-half:]}"
    say(f"error: {text}", file=sys.stderr)


@contextlib.contextmanager
def notes() -> Iterator[None]:
    """Warnings are lines on standard error, each once, and not endlessly many.

    Those of deprecation are for developers of other packages, and are not shown.
    """
    said: set[str] = set()

    def say_note(message, category, filename, lineno, file=None, line=None) -> None:
        text = " ".join(str(message).split())
        if text in said or len(said) > _MOST_NOTES:
            return
        said.add(text)
        text = text if len(said) <= _MOST_NOTES else "there are more notes, which are left out"
        say(f"note: {text}", file=sys.stderr)

    with warnings.catch_warnings():
        # Else Python keeps each message for good, to tell which it has shown.
        for category in (UserWarning, RuntimeWarning):
            warnings.simplefilter("always", category)
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = say_note
        yield


def run_tool(main: Callable[[], int | None], given: argparse.Namespace | None = None) -> int:
    """Run a command; the module tells the exit codes.

    Args:
        main: The command, the parsing of its arguments included; it may return an exit code.
        given: The parsed arguments, once `main` has parsed them. Where they have ``cfg_options``,
            those are taken for the reason of what MMEngine raises for odd settings.

    Returns:
        The exit code.

    Raises:
        SystemExit: argparse's, of ``--help`` or a mistyped option.
    """
    try:
        with _noted_interrupts() as interrupts:
            return _flushed(_outcome(main, given, interrupts))
    except KeyboardInterrupt:  # while the rest was printed
        say_error("interrupted")
        return EXIT_INTERRUPTED
    except SystemExit as ended:
        raise SystemExit(_flushed(ended.code)) from None


def leave(code: int) -> NoReturn:
    """End a process with an exit code; at once, where it is one of several of a launcher.

    Threads of gloo live until the interpreter is gone, and one that then still gives a tensor back
    turns every exit code into an abort (https://github.com/pytorch/pytorch/pull/179291). Threads
    that Python waits for end before, and what is registered with `atexit` runs. A process alone
    ends as usual, so that what wraps it, a profiler say, has its turn.

    A launcher names the first that ends, and ends the others whatever they still had to say: one
    that ends for the reason of another lets that one go first, and waits 5 s at most.

    Args:
        code: The exit code.
    """
    if "RANK" not in os.environ:  # which `set_launcher` sees to, whatever launches
        raise SystemExit(code)
    # As processes of `multiprocessing` end.
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, full or closed
            stream.flush()
    if code == EXIT_OTHER_PROCESS:
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(_AFTER_THE_OTHER)
    os._exit(code)


def is_full(error: BaseException | None) -> OSError | None:
    """The error that says that the disk is full, if it is behind `error`."""
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT):
            return one
    return None


def lacks_memory(error: BaseException) -> bool:
    """Whether there is not enough memory, as Python, NumPy, OpenCV or torch say it."""
    kind, text = type(error).__name__, str(error)
    return (
        isinstance(error, MemoryError)
        or kind == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "not enough memory" in text)
        or (kind == "error" and "Insufficient memory" in text)
    )


def lost_worker(error: BaseException) -> str | None:
    """What to do where a process that reads for a data loader was killed; None if none was."""
    texts = (" ".join(str(one).split()) for one in _chain(error) if isinstance(one, RuntimeError))
    found = [*filter(_LOST_WORKER.search, texts)]
    if not found or any(map(_FAULTY_WORKER.search, found)):
        return None
    return (
        f"a process that reads the data was killed ({found[0]}), as on a machine that runs out of "
        "memory: start again with fewer num_workers; a training goes on with --resume"
    )


def import_advice(error: ImportError) -> str | None:
    """What to install where another package cannot be imported; None where it is our own bug."""
    name = (error.name or "").partition(".")[0]
    if name == "fgclip_det":
        return None
    mend = "fgclip-det doctor tells what mends it"
    if name in _OPENMMLAB:
        mend = f"pip install 'fgclip_det[openmmlab]', or {mend}"
    elif name in _VIDEO:
        mend = "pip install 'fgclip_det[video]'"
    elif name in _WEB:
        mend = 'pip install "fgclip_det[web]"'
    if str(error).endswith(mend):  # whoever imported it has said so
        return str(error)
    return f"{name or 'a package'} cannot be imported ({error}): {mend}"


@contextlib.contextmanager
def needed_packages() -> Iterator[None]:
    """Around the imports of a tool: a package that cannot be imported is one line.

    Raises:
        SystemExit: With the code of an error that the user can mend.
    """
    try:
        yield
    except ImportError as error:
        advice = import_advice(error)
        if advice is None:
            raise
        say_error(advice)
        raise SystemExit(EXIT_USER_ERROR) from None


@contextlib.contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """Each Ctrl-C: compiled code may take the interrupt that Python raises for an error of its own.

    Where somebody else listens to Ctrl-C, or in another thread than the main one, there are none.
    """
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_ours or threading.current_thread() is not threading.main_thread():
        yield seen
        return
    hook, timers = sys.unraisablehook, list[threading.Timer]()

    def send_again(lost: Any) -> None:
        # Where an object is being deleted, Python drops what is raised, and goes on.
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            hook(lost)
            return
        timers.append(threading.Timer(_SOON, _interrupt_main_thread))
        timers[-1].start()

    signal.signal(signal.SIGINT, note)
    sys.unraisablehook = send_again
    try:
        yield seen
    finally:
        sys.unraisablehook = hook
        for timer in timers:
            timer.cancel()
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt_main_thread() -> None:
    if hasattr(signal, "pthread_kill"):  # which wakes it; Windows has none
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)


def _outcome(
    main: Callable[[], int | None], given: argparse.Namespace | None, interrupts: list[int]
) -> int:
    # Where nobody reads standard output, a log has no place to complain either.
    logging.raiseExceptions = False
    try:
        return main() or 0
    except KeyboardInterrupt:
        code, message = EXIT_INTERRUPTED, "interrupted"
    except BrokenPipeError:
        _let_go(sys.stdout)
        return EXIT_CLOSED
    except Exception as error:
        code, found = _verdict(error, given)
        if interrupts:
            code, found = EXIT_INTERRUPTED, "interrupted"
        if found is None:
            raise
        message = found
    with contextlib.suppress(OSError):
        say_error(message)
    return code


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _verdict(error: Exception, given: argparse.Namespace | None) -> tuple[int, str | None]:
    """Exit code and message; none for a bug."""
    if any(isinstance(one, KeyboardInterrupt) for one in _chain(error)):
        # MMEngine takes it for a fault of the config that it is writing.
        return EXIT_INTERRUPTED, "interrupted"
    if isinstance(error, OtherProcessError):
        return EXIT_OTHER_PROCESS, str(error)
    full = is_full(error)
    if full is not None:
        if full.filename is None and full.strerror != os.strerror(full.errno):
            return EXIT_FAILED, full.strerror  # whoever raised it has said what is full
        where = repr(str(full.filename)) if full.filename else "standard output"
        return EXIT_FAILED, f"{where} cannot be written ({full.strerror}): free some space"
    if lacks_memory(error):
        return EXIT_FAILED, f"not enough memory ({error}): give smaller pictures or fewer at once"
    lost = lost_worker(error)
    if lost is not None:
        return EXIT_FAILED, lost
    if isinstance(error, ImportError):
        return EXIT_USER_ERROR, import_advice(error)
    if isinstance(error, ValueError | OSError):
        return EXIT_USER_ERROR, _message(error)
    options = getattr(given, "cfg_options", None)
    message = _of_options(error, options) if options and isinstance(error, _OF_SETTINGS) else None
    return (EXIT_FAILED if message is None else EXIT_USER_ERROR), message


def _of_options(error: Exception, options: Iterable[str]) -> str | None:
    """What is said where a setting of ``--cfg-options`` is the likely reason; None if it is not."""
    name = _UNEXPECTED_ARGUMENT.search(str(error))
    if name:
        setting = [key for key in options if name[1] in key.split(".")]
        return (
            f"--cfg-options: {setting[0]!r} sets {name[1]!r}, which is unknown: {error}"
            if setting
            else None
        )
    handle, path = tempfile.mkstemp(".txt", "fgclip_det-traceback-")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.writelines(traceback.format_exception(error))
    return (
        f"--cfg-options set {', '.join(map(repr, options))}, and then {type(error).__name__}: "
        f"{error}: check the values; without them it is a bug, its traceback is in {path!r}"
    )


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


def _flushed(code: int | str | None) -> int | str | None:
    """The exit code once all is printed: what is still held back can fail too."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _let_go(sys.stdout)
        return EXIT_CLOSED
    except OSError as error:
        _let_go(sys.stdout)
        if not code:
            reason = f"standard output cannot be written ({error.strerror}): free some space"
            say_error(reason)
        return code or EXIT_FAILED
    return code


def _let_go(stream: TextIO | None) -> None:
    """Let what is still to be printed go nowhere, or Python complains when it ends."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
