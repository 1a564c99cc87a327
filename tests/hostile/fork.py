"""One case in a fork: a folder of its own, limits, and an end like the interpreter's."""

from __future__ import annotations

import atexit
import errno
import io
import json
import os
import resource
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tests.hostile.case import NO_RESULT, Case, Room
from tests.hostile.shared_data import ROOT, Data
from tests.hostile.verdict import snapshot

# What would run something, or reach for another machine.
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
_UNFLUSHED = 120
_GIB = 1 << 30


@dataclass(frozen=True)
class Limits:
    """Of one run: seconds of CPU, seconds by the clock, GiB above what the parent has mapped."""

    cpu: int = 60
    wall: float = 180.0
    memory: int = 6


def start(case: Case, room: Room, data: Data, limits: Limits) -> int:
    """Process id of a child that runs the case."""
    room.folder.mkdir(parents=True)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    _run_child(case, room, data, limits)


def _run_child(case: Case, room: Room, data: Data, limits: Limits) -> NoReturn:
    code = 1  # of an error that cannot even be printed
    try:
        os.setsid()
        os.chdir(room.folder)
        Path("tmp").mkdir()
        tempfile.tempdir = os.environ["TMPDIR"] = str(room.folder / "tmp")
        arguments = [_text(part) for part in case.make(room.folder, data)]
        room.before.write_text(json.dumps(snapshot(room.folder, case.places)))
        # As in a terminal, whatever the parent was started by.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _redirect("stdout", case.stdout, room.path, encoding=case.encoding)
        _redirect("stderr", case.stderr, room.path, errors="backslashreplace")
        _watch(room.forbidden)
        _guard(room.path)
        _limit(limits)
        if case.inside:
            case.inside(room.folder)
    except BaseException:
        room.broken.write_text(traceback.format_exc())
        os._exit(0)
    try:
        code = _ended(lambda: _command(case.command, arguments))
        code = _finalize(code)
    except BaseException:
        traceback.print_exc()
        code = NO_RESULT
    finally:
        os._exit(code)


def _text(part: Any) -> str:
    return part if isinstance(part, str) else os.fsdecode(part)


def _command(name: str, arguments: list[str]) -> Any:
    if name == "fgclip-det":
        sys.argv = ["fgclip-det", *arguments]
        from fgclip_det.cli import main

        return sys.exit(main())
    tool = ROOT / "tools" / name
    sys.argv = [str(tool), *arguments]
    return runpy.run_path(str(tool), run_name="__main__")


def _ended(command: Callable[[], Any]) -> int:
    """The exit code that the interpreter would make of how a command ends."""
    try:
        command()
        return 0
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return 130
    except BaseException:
        traceback.print_exc()
        return 1


def _finalize(code: int) -> int:
    """What the interpreter does at its end: exit handlers, then the last of stdout."""
    atexit._run_exitfuncs()
    try:
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
    except OSError as error:
        print(f"Exception ignored while flushing sys.stdout: {error}", file=sys.stderr)
        code = _UNFLUSHED
    if sys.stderr is not None:
        sys.stderr.flush()
    return code


def _redirect(name: str, kind: str, folder: Path, encoding: str = "utf-8", **how: str) -> None:
    number = {"stdout": 1, "stderr": 2}[name]
    if kind == "closed":
        os.close(number)
        stream = None
    else:
        if kind == "pipe":
            reader, target = os.pipe()
            os.close(reader)
        else:
            path = "/dev/full" if kind == "full" else str(folder / name)
            target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(target, number)
        os.close(target)
        raw = os.fdopen(number, "wb", closefd=False)
        stream = io.TextIOWrapper(raw, encoding=encoding, **how)
        if name == "stderr":
            stream.reconfigure(line_buffering=True)
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def _guard(room: Path) -> None:
    """Forbids every change outside a folder: who runs this as root has a machine to lose."""
    home, changes = os.path.realpath(room), os.O_WRONLY | os.O_RDWR | os.O_CREAT
    changed = {"os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.truncate": 1, "os.chmod": 1}
    changed |= {"os.rename": 2, "os.link": 2, "os.symlink": 2}

    def guard(event: str, arguments: tuple) -> None:
        if event == "open":
            paths = arguments[:1] if (arguments[2] or 0) & changes else ()
        else:
            paths = arguments[: changed.get(event, 0)]
        for path in paths:
            if isinstance(path, int):
                continue
            # Of the place, not of what a link at the name points to, which a rename leaves alone.
            parent, name = os.path.split(os.path.abspath(os.fsdecode(path)))
            place = os.path.join(os.path.realpath(parent), name)
            if event == "open":
                place = os.path.realpath(place)
            if not place.startswith((f"{home}/", "/dev/null", "/dev/full", "/proc/self/fd")):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    sys.dont_write_bytecode = True
    sys.addaudithook(guard)


def _watch(path: Path) -> None:
    """Notes what is executed; cannot be undone, hence in a fork alone."""
    notes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(event: str, arguments: tuple) -> None:
        if event in FORBIDDEN:
            os.write(notes, f"{event} {arguments!r}\n"[:500].encode("utf-8", "replace"))

    sys.addaudithook(note)


def _limit(limits: Limits) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + limits.memory * _GIB
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu, limits.cpu + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_GIB, _GIB))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def end(child: int, started: float, limits: Limits) -> int | None:
    """The status of a child that is done; None while it may still work. A hanging one is killed."""
    done, status = os.waitpid(child, os.WNOHANG)
    if not done and time.monotonic() - started > limits.wall:
        os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        return status
    return status if done else None


def clean_up(child: int) -> bool:
    """Kills what a child left running in its group; True if it did not end by itself."""
    # Helpers end once they hear that it is gone, on a busy machine not at once.
    patient_until = time.monotonic() + 60
    try:
        while time.monotonic() < patient_until:
            os.killpg(child, 0)
            time.sleep(0.02)
        os.killpg(child, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True
