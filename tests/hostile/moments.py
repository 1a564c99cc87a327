"""Places that cannot be written, streams that end, and what happens in the middle of a run."""

from __future__ import annotations

import errno
import io
import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from fgclip_det import exit_codes
from tests.hostile import arguments
from tests.hostile.case import (
    DONE,
    INTERRUPTED,
    NO_SPACE,
    PARTLY,
    PIPE_CLOSED,
    REFUSED,
    Case,
    case,
    write_file,
)
from tests.hostile.shared_data import BUNDLED, Data

EITHER = {DONE, REFUSED}
# More than a run with three pictures has.
_WRITES = 50
Base = Callable[[Path, Data], list[object]]
# What each command does to its end: its name, its tool and its arguments, all into `out`.
_WORK: dict[str, tuple[str, Base]] = {
    "demo": ("fgclip-det", arguments._demo),
    "heatmap": ("fgclip-det", arguments._heatmap),
    "rescore": ("rescore.py", arguments._rescore),
    "eval_fg_ovd": ("eval_fg_ovd.py", arguments._fg_ovd),
    "eval_region_accuracy": ("eval_region_accuracy.py", arguments._accuracy),
    "prepare_shapes": ("prepare_shapes.py", arguments._shapes),
    "prepare_ov_coco": ("prepare_ov_coco.py", arguments._coco),
    "prepare_ov_lvis": ("prepare_ov_lvis.py", arguments._lvis),
    "bundle_model": ("bundle_model.py", arguments._bundle),
    "test": ("test.py", arguments._test),
    "train": ("train.py", arguments._train),
}


def _file(folder: Path, data: Data) -> str:
    return str(write_file(folder / "taken", "a"))


def _in_picture(folder: Path, data: Data) -> str:
    write_file(folder / "x.png", data.picture.read_bytes())
    return "x.png/out"


def _link_to_itself(folder: Path, data: Data) -> str:
    (folder / "taken").symlink_to("taken")
    return "taken"


def _link_to_nothing(folder: Path, data: Data) -> str:
    (folder / "taken").symlink_to("nowhere/at/all")
    return "taken"


def _results_are_folders(folder: Path, data: Data) -> str:
    for name in ("preds/000006.json", "heatmaps/000006.npz", "vis/000006.png"):
        (folder / "out" / name).mkdir(parents=True)
    return "out"


def _pipe(folder: Path, data: Data) -> str:
    os.mkfifo(folder / "taken")
    return "taken"


# Where results are asked for, and which exit codes are right.
_OUT: dict[str, tuple[Callable[[Path, Data], str], set[int]]] = {
    "a file": (_file, {REFUSED}),
    "a file's folder": (lambda f, d: _file(f, d) + "/x", {REFUSED}),
    "inside a picture": (_in_picture, {REFUSED}),
    "/proc": (lambda f, d: "/proc/x", {REFUSED}),
    "too long a name": (lambda f, d: "n" * 300, {REFUSED}),
    "too long a path": (lambda f, d: "n/" * 2200, {REFUSED}),
    "a link to itself": (_link_to_itself, {REFUSED}),
    "a link to nothing": (_link_to_nothing, {REFUSED}),
    "a pipe": (_pipe, {REFUSED}),
    "where results are folders": (_results_are_folders, {DONE, REFUSED, PARTLY}),
    "not UTF-8": (lambda f, d: "out/\udcff", EITHER),
    "with colours": (lambda f, d: "out/\x1b[31mred\x07", {DONE}),
    "with lines": (lambda f, d: "out/a\nerror: b", {DONE}),
    "with NUL": (lambda f, d: "out/a\0b", {REFUSED}),
    "up and down": (lambda f, d: "out/../out/./x", {DONE}),
}


def _into(command: str, place: Callable[[Path, Data], str]) -> Base:
    def make(folder: Path, data: Data) -> list[object]:
        *before, last = _WORK[command][1](folder, data)
        return [*before, last, "--out-dir", place(folder, data)]

    return make


def _onto_a_pipe(command: str) -> Base:
    def make(folder: Path, data: Data) -> list[object]:
        os.mkfifo(folder / "pipe.json")
        return [*_WORK[command][1](folder, data), "--out", "pipe.json"]

    return make


def _on_its_input(folder: Path, data: Data) -> list[object]:
    """Pictures lie where results go."""
    for name in ("good.png", "vis/x.png"):
        write_file(folder / "in" / name, data.picture.read_bytes())
    return ["demo", "in/good.png", "in/vis/x.png", "--out-dir", "in"]


def _over_its_input(folder: Path, data: Data) -> list[object]:
    """The picture is what its drawn result would be written over."""
    write_file(folder / "vis" / "x.png", data.picture.read_bytes())
    return ["demo", "vis/x.png", "--out-dir", "."]


def _replaced(number: int, how: Callable[[], None]) -> Callable[[Path], None]:
    """Something happens when the n-th result takes its name."""

    def inside(folder: Path) -> None:
        replace, count = os.replace, itertools.count(1)

        def replaced(*args, **keywords) -> None:
            if next(count) == number:
                how()
            replace(*args, **keywords)

        os.replace = replaced

    return inside


def _full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _read_only() -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _after(seconds: float) -> Callable[[Path], None]:
    """Ctrl-C after some time of work, not before and after it, where Python itself answers."""

    def inside(folder: Path) -> None:
        run = exit_codes.run_tool

        def run_tool(*args, **keywords):
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                return run(*args, **keywords)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)

        def interrupt(*_) -> None:
            if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                _interrupt()

        signal.signal(signal.SIGALRM, interrupt)
        for name, module in list(sys.modules.items()):
            if name.startswith("fgclip_det") and getattr(module, "run_tool", None) is run:
                module.run_tool = run_tool

    return inside


class _WatchedFile(io.FileIO):
    """Tells of each write before and after it."""

    def __init__(self, handle: int, watched: Callable[[Callable], Callable]) -> None:
        super().__init__(handle, "wb")
        self._watched_write = watched(super().write)

    def write(self, data) -> int | None:
        return self._watched_write(data)


def _at_writes(before: Callable[[int], None], after: Callable[[int], None]):
    """Calls these with the number of each thing that takes space: files, folders, writes, syncs."""

    def inside(folder: Path) -> None:
        counted = itertools.count(1)
        opened, fdopen = os.open, os.fdopen

        def watched(function: Callable) -> Callable:
            def call(*args, **keywords):
                number = next(counted)
                before(number)
                try:
                    return function(*args, **keywords)
                finally:
                    after(number)

            return call

        def open_watched(path, flags, *args, **keywords) -> int:
            function = watched(opened) if flags & os.O_CREAT else opened
            return function(path, flags, *args, **keywords)

        def stream(handle, mode="r", *args, **keywords):
            if "w" in mode and "b" in mode:
                return io.BufferedWriter(_WatchedFile(handle, watched))
            return fdopen(handle, mode, *args, **keywords)

        os.open, os.fdopen = open_watched, stream
        for name in ("mkdir", "fsync", "replace", "rename", "write"):
            setattr(os, name, watched(getattr(os, name)))

    return inside


def _full_from(number: int) -> Callable[[Path], None]:
    """No space from the n-th write on."""
    touch = os.open

    def before(count: int) -> None:
        if count >= number:
            os.close(touch("fired", os.O_CREAT | os.O_WRONLY))
            _full()

    return _at_writes(before, lambda count: None)


def _ctrl_c_after(number: int) -> Callable[[Path], None]:
    """Ctrl-C when the n-th write is done, and nothing knows yet that it is."""
    return _at_writes(lambda count: None, lambda count: count == number and _interrupt())


def _three(folder: Path, data: Data) -> list[object]:
    return ["demo", BUNDLED / "images", "--out-dir", "out"]


def _bad(folder: Path, data: Data) -> list[object]:
    return ["demo", write_file(folder / "x.png", b""), "--out-dir", "out"]


def _space(number: int) -> Case:
    def check(folder: Path, code: int) -> str | None:
        fired = (folder / "fired").exists()
        if fired and number == _WRITES:
            return "a run writes more often than there are cases"
        return None if fired == (code == NO_SPACE) else f"no space: {fired}, exit code {code}"

    id = f"space/none from write {number} on"
    inside = _full_from(number)
    return case(id, "fgclip-det", _three, {DONE, NO_SPACE}, inside=inside, check=check)


def _ends(command: str) -> Iterator[Case]:
    """Streams that end, disks that are full and Ctrl-C, for one command."""
    tool, base = _WORK[command]
    printed = {DONE} if command in ("train",) else set()
    yield case(
        f"stream/nobody reads stdout/{command}", tool, base, {PIPE_CLOSED} | printed,
        stdout="pipe", errors=None,
    )  # fmt: skip
    yield case(f"stream/stdout is full/{command}", tool, base, {NO_SPACE} | printed, stdout="full")
    yield case(
        f"stream/stdout is closed/{command}", tool, base, {DONE, PIPE_CLOSED},
        stdout="closed", errors=None,
    )  # fmt: skip
    id = f"stream/stdout of ASCII/{command}"
    yield case(id, tool, base, DONE, encoding="ascii")
    yield case(
        f"stream/nobody reads stderr/{command}", tool, base, {DONE, PIPE_CLOSED}, stderr="pipe"
    )
    if command not in ("train", "test"):
        yield case(f"moment/no space at the 1st file/{command}", tool, base, NO_SPACE,
                   inside=_full_from(1))  # fmt: skip
        yield case(f"moment/no space for the 1st name/{command}", tool, base, NO_SPACE,
                   inside=_replaced(1, _full))  # fmt: skip
        yield case(f"moment/read-only for the 1st name/{command}", tool, base,
                   {REFUSED, NO_SPACE}, inside=_replaced(1, _read_only))  # fmt: skip
        yield case(f"moment/Ctrl-C at the 1st file/{command}", tool, base, INTERRUPTED,
                   inside=_replaced(1, _interrupt))  # fmt: skip
    for seconds in (0.05, 0.1, 0.3, 0.7, 1.5):
        yield case(f"moment/Ctrl-C after {seconds} s/{command}", tool, base,
                   {INTERRUPTED, DONE}, inside=_after(seconds))  # fmt: skip


def cases() -> Iterator[Case]:
    """Places, streams and moments for all commands."""
    yield from map(_space, range(1, _WRITES + 1))
    for command in ("demo", "heatmap"):
        for name, (place, codes) in _OUT.items():
            make = _into(command, place)
            yield case(f"out/{name}/{command}", "fgclip-det", make, codes, errors=None)
    for command in ("rescore", "eval_fg_ovd", "eval_region_accuracy"):
        # Stands for every device: what is no file is not replaced.
        yield case(f"out/a pipe/{command}", _WORK[command][0], _onto_a_pipe(command), REFUSED)
    yield case("out/the input's folder/demo", "fgclip-det", _on_its_input, EITHER, places=())
    yield case(
        "out/the input itself/demo", "fgclip-det", _over_its_input, EITHER, places=("preds",)
    )
    for command in _WORK:
        yield from _ends(command)
    for number in range(1, 30):
        yield case(f"moment/Ctrl-C after write {number}", "fgclip-det", _three, INTERRUPTED,
                   inside=_ctrl_c_after(number))  # fmt: skip
    for number in range(2, 7):
        yield case(f"moment/Ctrl-C at file {number}/demo", "fgclip-det", _three,
                   {INTERRUPTED, DONE},
                   inside=_replaced(number, _interrupt))  # fmt: skip
    for kind in ("full", "pipe", "closed"):
        yield case(f"stream/an error and stderr {kind}", "fgclip-det", _bad,
                   {REFUSED, NO_SPACE, PIPE_CLOSED}, stderr=kind)  # fmt: skip
    for kind in ("full", "pipe", "closed"):
        codes = {"full": {NO_SPACE}, "pipe": {PIPE_CLOSED}, "closed": {DONE}}[kind]
        # Where there is no stdout, argparse writes to stderr.
        for words in [["--help"], ["--version"], ["doctor"]][2 * (kind == "closed") :]:
            allowed = codes | ({REFUSED} if words == ["doctor"] else set())
            yield case(f"stream/{words[0]} to a stdout that is {kind}", "fgclip-det",
                       lambda f, d, words=words: words, allowed,
                       stdout=kind, errors=None)  # fmt: skip
