"""How commands end, and that no name garbles what they print."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from fgclip_det.exit_codes import OtherProcessError, import_advice, notes, printable, run_tool, say

ROOT = Path(__file__).resolve().parents[1]


def failing(error: BaseException, cause: BaseException | None = None):
    def main() -> None:
        if cause is not None:
            raise error from cause
        raise error

    return main


class OutOfMemoryError(RuntimeError):
    """As torch calls its own."""


FULL = OSError(errno.ENOSPC, "No space left on device", "/x/y.json")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("x is 5: give 6"), 2, "x is 5: give 6"),
        (FileNotFoundError(2, "No such file", "a.py"), 2, "check the paths"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OtherProcessError("process 1 ends, as process 0 did"), 4, "as process 0 did"),
        (FULL, 1, "'/x/y.json' cannot be written (No space left on device)"),
        (OSError(errno.ENOSPC, "a.pth was not saved"), 1, "error: a.pth was not saved"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 1, "Disk quota exceeded"),
        (MemoryError("Unable to allocate 175. GiB"), 1, "not enough memory"),
        (OutOfMemoryError("CUDA out of memory"), 1, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), 1, "not enough memory"),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), 1, "--resume"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), 1, "num_workers"),
        (ModuleNotFoundError("No module named 'mmcv'", name="mmcv"), 2, "fgclip_det[openmmlab]"),
        (ImportError("cannot import x", name="mmdet.models"), 2, "fgclip_det[openmmlab]"),
        (ImportError("libGL.so.1: cannot open", name="cv2"), 2, "fgclip-det doctor"),
        (ValueError("a\x1b[31m\nb\u202e"), 2, r"a\x1b[31m b\u202e"),
    ],
)
def test_errors_are_one_line(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture
) -> None:
    assert run_tool(failing(error)) == code
    printed, said = capsys.readouterr()
    assert printed == ""
    assert said.startswith("error: ") and said.count("\n") == 1 and words in said


def test_a_full_disk_behind_another_error_is_one(capsys: pytest.CaptureFixture) -> None:
    assert run_tool(failing(ValueError("cannot write"), FULL)) == 1
    assert "/x/y.json" in capsys.readouterr().err


class Killed(Dataset):
    """Whose reader is killed."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return index


@pytest.mark.parametrize("options", [None, {"train_cfg.max_epochs": 1}])
def test_a_killed_reader_is_no_fault_of_options(
    options: dict | None, capsys: pytest.CaptureFixture
) -> None:
    def main() -> None:
        list(DataLoader(Killed(), num_workers=1))

    assert run_tool(main, argparse.Namespace(cfg_options=options)) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("error: ")] == said[-1:]
    assert "a process that reads the data was killed" in said[-1] and "pid" in said[-1]


@pytest.mark.parametrize(
    "error",
    [
        TypeError("f() got an unexpected keyword argument 'x'"),
        RuntimeError("a bug"),
        RuntimeError("DataLoader worker (pid 7) exited unexpectedly with exit code 1. Details"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Segmentation fault. "),
        ImportError("cannot import name 'x'", name="fgclip_det.io"),
        AssertionError(),
    ],
)
def test_bugs_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        run_tool(failing(error))


def test_codes_of_commands_are_kept() -> None:
    assert [run_tool(lambda code=code: code) for code in (None, 0, 2, 3)] == [0, 0, 2, 3]
    with pytest.raises(SystemExit) as ended:
        run_tool(lambda: argparse.ArgumentParser().parse_args(["--x"]))
    assert ended.value.code == 2


IMPORTS = "import sys\nfrom fgclip_det.exit_codes import *"
LINES = "sys.exit(run_tool(lambda: [print(i, flush=%s) for i in range(%d)] and 0))"
HELP = "sys.exit(run_tool(lambda: Parser('x' * 5).parse_args(['--help'])))"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "source", [LINES % (True, 9), LINES % (False, 9), LINES % (False, 99_999), HELP]
)
def test_a_closed_output_ends_as_shells_say_it(source: str, unbuffered: str) -> None:
    running = subprocess.Popen(
        [sys.executable, "-c", f"{IMPORTS}\nsys.stdin.read()\n{source}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    # It prints once nobody reads.
    running.stdout.close()
    running.stdin.close()
    said = running.stderr.read().decode()
    running.stderr.close()
    assert (running.wait(), said) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    "source", [LINES % (True, 9), LINES % (False, 9), LINES % (False, 99_999), HELP]
)
def test_a_full_output_is_one_line(source: str) -> None:
    command = [sys.executable, "-c", f"{IMPORTS}\n{source}"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    said = done.stderr
    assert done.returncode == 1
    assert said.startswith("error: standard output cannot be written") and said.count("\n") == 1


def test_a_missing_output_is_none_of_our_business() -> None:
    command = f"{IMPORTS}\n{LINES % (False, 9)}"
    done = subprocess.run(["sh", "-c", f'exec "{sys.executable}" -c "$0" >&-', command], cwd=ROOT)
    assert done.returncode == 0


def test_lines_stay_lines_whatever_names_they_hold() -> None:
    text = "a\x00\x07\x08\n\r\x1b]0;x\x7f\x9b\u202e\u2066\u2028\u061c\udcffb"
    escaped = printable(text)
    assert escaped.isascii() and escaped.isprintable() and escaped[0] + escaped[-1] == "ab"
    kept = "红色 é 👩\u200d🚀 ש\u200cל\u00a0x"
    assert printable(kept) == kept
    stream = io.StringIO()
    say(text, "two", file=stream)
    assert stream.getvalue() == f"{escaped}\ntwo\n"


def test_a_terminal_without_the_letters_gets_escapes() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    say("红 é", file=stream)
    stream.flush()
    assert raw.getvalue() == b"\\u7ea2 \\xe9\n"


def test_notes_are_said_once_and_not_endlessly(capsys: pytest.CaptureFixture) -> None:
    with notes():
        for number in range(1000):
            for _ in range(2):
                warnings.warn(f"picture {number}\x1b is\nodd", stacklevel=1)
        warnings.warn("of another package", DeprecationWarning, stacklevel=1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [r"note: picture 0\x1b is odd", r"note: picture 1\x1b is odd"]
    assert len(lines) == 21 and "left out" in lines[-1]
    # Python's own memory of what was said grows with each message.
    assert len(globals().get("__warningregistry__", {})) < 10


def test_an_error_has_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ValueError(f"no file at {'a/' * 5000}end: check the path")

    assert run_tool(fail) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: no file at a/a/") and said.endswith("end: check the path\n")
    assert len(said) < 2000


def test_odd_settings_are_named_and_their_traceback_is_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = argparse.Namespace(cfg_options={"param_scheduler": 5})

    def fail() -> None:
        raise TypeError("'int' object is not iterable")

    assert run_tool(fail, given) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --cfg-options set 'param_scheduler', and then TypeError")
    assert said.count("\n") == 1
    kept = Path(said.split("traceback is in '")[1].rstrip("'\n"))
    assert "raise TypeError" in kept.read_text()
    kept.unlink()
    with pytest.raises(TypeError):
        run_tool(fail, argparse.Namespace(cfg_options=None))


def test_ctrl_c_behind_another_error_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise SyntaxError("the config cannot be formatted") from interrupt

    assert run_tool(fail) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


@pytest.fixture
def python_listens() -> Iterator[None]:
    """Python answers Ctrl-C, whatever listened before, as another test's command may leave it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_listens")
def test_ctrl_c_that_compiled_code_takes_for_its_own_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise ValueError("could not determine the shape")

    assert run_tool(fail) == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert capsys.readouterr().err == "error: interrupted\n"


def test_ctrl_c_while_the_rest_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.stdout, "flush", interrupt)
    assert run_tool(lambda: 0) == 130
    monkeypatch.undo()
    assert capsys.readouterr().err == "error: interrupted\n"


def test_packages_for_videos_name_their_extra_once() -> None:
    bare = ModuleNotFoundError("No module named 'av'", name="av")
    advice = import_advice(bare)
    assert advice.endswith("pip install 'fgclip_det[video]'")
    assert import_advice(ImportError(advice, name="av")) == advice


@pytest.mark.usefixtures("python_listens")
def test_an_interrupt_while_an_object_is_deleted_is_not_lost(capsys: pytest.CaptureFixture) -> None:
    """Python says "Exception ignored" there, and would go on."""

    class Deleted:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)

    def work() -> None:
        Deleted()
        time.sleep(60)

    started = time.monotonic()
    assert run_tool(work) == 130
    assert time.monotonic() - started < 50
    assert capsys.readouterr().err == "error: interrupted\n"


def left(source: str, *given: str, **environment: str) -> subprocess.CompletedProcess:
    """A process that ends by `leave(3)` after it has run a source."""
    program = f"import sys\nfrom fgclip_det.exit_codes import leave\n{source}\nleave(3)"
    command = [sys.executable, "-c", program, *given]
    environment = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)


def test_threads_that_still_share_work_keep_the_exit_code(tmp_path: Path) -> None:
    source = """
import torch, torch.distributed as dist
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=0, world_size=1)
for _ in range(60):
    given = torch.ones(1_000_000)
    dist.all_gather([torch.empty_like(given)], given, async_op=True)
    del given
"""
    done = left(source, str(tmp_path / "meeting"), RANK="0")
    assert done.returncode == 3, done.stderr


def test_leaving_loses_nothing() -> None:
    source = """
import atexit, time
from concurrent.futures import ThreadPoolExecutor
def last():
    time.sleep(0.5)
    print("by a thread")
atexit.register(print, "registered")
ThreadPoolExecutor(1).submit(last)
print("printed")
"""
    for environment in ({}, {"RANK": "0"}):
        done = left(source, **environment)
        assert (done.returncode, done.stderr) == (3, "")
        assert done.stdout == "printed\nby a thread\nregistered\n"
