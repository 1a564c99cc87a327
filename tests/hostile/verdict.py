"""What is wrong with how a run ended: its exit code, its lines, its files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.case import INTERRUPTED, NO_RESULT, REFUSED, Case, Room

_MAX_LINE = 2_000
_HASHED = 4 << 20
_SAID = ("error: ", "note: ")
_USAGE = re.compile(r"^[\w.-]+( \w+)?: error: ")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Lines of progress, the sum that follows the errors of single pictures, and demo's last one.
_OTHER = re.compile(
    r"^(\d+ of \d+ pictures were done"
    r"|the bundled model knows coloured shapes alone; for photographs: fgclip-det detect"
    r"|[\w ]+: *\d+(%|it|\w* \[).*|usage: .*| +.*|)$"
)
# MMEngine logs to stderr, and asks compilers for their versions.
_RUNNERS = ("train.py", "test.py")


def complaints(case: Case, room: Room, status: int, left_running: bool) -> list[str]:
    """What is wrong, a line each; empty for a case that passed."""
    if room.broken.exists():
        return [f"HARNESS: {room.broken.read_text().strip().splitlines()[-1]}"]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number in (signal.SIGKILL, signal.SIGXCPU):
            return [f"HANG or out of memory: killed by {signal.Signals(number).name}"]
        if number not in (signal.SIGPIPE, signal.SIGINT):
            return [f"CRASH: {signal.Signals(number).name}"]
        code = 128 + number
    else:
        code = os.WEXITSTATUS(status)
    found = [*_told(case, room, code), *_left(case, room, code)]
    if left_running:
        found.append("a process of its own was left running")
    return found


def _told(case: Case, room: Room, code: int) -> Iterator[str]:
    said, errors = room.said("stdout"), room.said("stderr")
    if code not in case.codes or code == NO_RESULT:
        yield f"exit code {code}, not {' or '.join(map(str, sorted(case.codes)))}"
    if "Traceback (most recent call last)" in errors + said:
        yield "TRACEBACK"
    if "Exception ignored" in errors:
        yield "an exception at the end"
    if _CONTROL.search(said):
        yield f"raw control characters on stdout: {_around(said)!r}"
    if case.stderr != "file":
        return
    # A progress bar that Ctrl-C stops as it is drawn stands before the error on its line.
    errors = re.sub(r"(\| \d+/\d+ \[[^\]\n]*\])(error: interrupted)", r"\1\n\2", errors)
    lines = [line.rpartition("\r")[2] for line in errors.split("\n")]
    shown = [line for line in lines if line.startswith(_SAID)]
    for line in shown:
        if len(line) > _MAX_LINE:
            yield f"a line of {len(line)} characters"
        if _CONTROL.search(line):
            yield f"raw control characters on stderr: {_around(line)!r}"
    usage = any(_USAGE.match(line) for line in lines)
    if usage and code != REFUSED:
        yield f"a usage error with exit code {code}"
    count = sum(line.startswith("error: ") for line in lines) or usage
    if code in (1, 2, 3, 130) and not count:
        yield f"exit code {code} without a line that begins with 'error: '"
    elif code and case.errors is not None and count > case.errors:
        yield f"{count} lines of errors"
    elif code == 0 and count:
        yield "an error and exit code 0"
    if case.command not in _RUNNERS and not usage and "Traceback" not in errors:
        odd = [x for x in lines if not x.startswith(_SAID) and not _OTHER.match(x)]
        if odd:
            yield f"odd line on stderr: {odd[0][:150]!r}"


def _around(text: str) -> str:
    at = _CONTROL.search(text).start()
    return text[max(at - 30, 0) : at + 10]


def _left(case: Case, room: Room, code: int) -> Iterator[str]:
    ran = room.forbidden.read_text("utf-8", "replace") if room.forbidden.exists() else ""
    if ran and case.command not in _RUNNERS and "doctor" not in case.id:
        yield f"EXECUTED: {ran.splitlines()[0][:200]}"
    before = json.loads(room.before.read_text())
    said, interrupted = room.said("stderr"), code == INTERRUPTED
    yield from faults(room.folder, case.places, before, said, interrupted)
    if case.command == "fgclip-det" and code == REFUSED and "out" in case.places:
        written = [name for name in results(room.folder) if f"out/{name}" not in before]
        if written:
            yield f"exit code 2, but {written[:3]} was written"
    if case.check:
        fault = case.check(room.folder, code)
        if fault:
            yield fault


def snapshot(folder: Path, places: tuple[str, ...]) -> dict[str, str]:
    """What each file is that a command may not change, by its path in `folder`."""
    found = {}
    for path in _walk(folder):
        name = os.fsencode(os.path.relpath(path, folder)).decode("latin1")
        if name.partition("/")[0] not in (*places, "tmp", "canary"):
            found[name] = _state(path)
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(parent, name)


def _state(path: Path) -> str:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return f"link to {os.readlink(path)!r}"
    if not stat.S_ISREG(status.st_mode):
        return f"kind {stat.S_IFMT(status.st_mode)}"
    if status.st_size > _HASHED:
        return f"{status.st_size} bytes of {status.st_mtime_ns}"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def faults(
    folder: Path, places: tuple[str, ...], before: dict[str, str], said: str, interrupted: bool
) -> Iterator[str]:
    """What is wrong with the files in `folder` after a run that said so on stderr."""
    after = snapshot(folder, places)
    changed = sorted(name for name in before if before[name] != after.get(name))
    if changed:
        yield f"inputs changed: {changed[:3]!r}"
    for path in _walk(folder):
        name = os.fsencode(os.path.relpath(path, folder)).decode("latin1")
        # Between the making of a temporary file and its first line Python's own leave it too.
        kept = interrupted or path.name in said
        # PyTorch's compiler makes a place for its files whenever something imports it.
        if path.name.startswith("torchinductor_"):
            continue
        if ".partial" in path.name or (name.startswith("tmp/") and not kept):
            yield f"left over: {name!r}"
        elif name == "canary":
            yield "EXECUTED: the canary was made"
        elif name.startswith("in/"):  # what a case itself broke there while the command ran
            continue
        elif name not in before and path.is_file() and not path.is_symlink():
            fault = torn(path)
            if fault:
                yield f"torn: {name!r} ({fault})"


def torn(path: Path) -> str | None:
    """Why a result cannot be read, if it cannot."""
    try:
        if path.suffix == ".json":
            text = path.read_text(encoding="utf-8")
            # MMEngine's scalars are lines of JSON.
            for part in text.splitlines() if "vis_data" in path.parts else [text]:
                json.loads(part, parse_constant=_refuse)
        elif path.suffix == ".png":
            from PIL import Image

            Image.MAX_IMAGE_PIXELS = None
            with Image.open(path) as image:
                image.load()
        elif path.suffix == ".npz":
            import numpy as np

            with np.load(path, allow_pickle=False) as arrays:
                for name in arrays.files:
                    values = arrays[name]
                    if values.dtype.kind == "f" and not np.isfinite(values).all():
                        return f"{name} is not finite"
        elif path.suffix == ".safetensors":
            from safetensors.torch import load

            load(path.read_bytes())  # not by its name, which may be no UTF-8
    except Exception as error:  # a torn file raises whatever its reader runs into
        return f"{type(error).__name__}: {error}"
    return None


def _refuse(text: str) -> None:
    raise ValueError(text)


def results(folder: Path) -> list[str]:
    """All files under ``out``, sorted."""
    out = folder / "out"
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
