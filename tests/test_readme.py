"""What the README and the docs tell a reader to type works.

README.md: every ```python block and every command of a ```bash block is run, but for those that
`NOT_RUN` names, each with its reason. Other documents: only blocks right below the line
`<!-- test: run -->`. Commands run one after another in one scratch folder that holds links to the
checkout's folders, so relative paths work and nothing is written into the checkout.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCUMENTS = [path for path in (README, *sorted((ROOT / "docs").glob("*.md"))) if path.is_file()]
MARK = "<!-- test: run -->"

NOT_RUN = [
    (r"^(git clone|cd|source|\.) ", "belongs to the reader's shell"),
    (r"^(FORCE_CUDA=\S+ |TORCH_CUDA_ARCH_LIST=\S+ )*make\b", "this suite runs inside `make test`"),
    (r"^(sudo )?(pip|apt|apt-get|dnf|conda) ", "changes the environment; `make` does the same"),
    (r"tools/prepare_shapes\.py", "minutes; tests/tools/test_prepare_shapes.py runs it small"),
    (r"tools/(dist_)?train\.(py|sh)", "hours; tests/tools and test_configs.py train at tiny size"),
    (r"tools/rescore\.py", "needs a detector's results; tests/tools runs it small"),
    (r"tools/(dist_)?test\.(py|sh)", "needs generated data; tests/tools runs it at tiny size"),
    (r"(qihoo360/|--model |--encoder |street\.jpg)", "needs weights or pictures of the reader's"),
]

FENCE = re.compile(
    r"(?P<before>[^\n]*)\n```(?P<language>bash|sh|shell|python|console)\n(?P<code>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block: where it starts, its language, its text, and whether a mark precedes it."""

    path: Path
    line: int
    language: str
    code: str
    marked: bool


def find_blocks(path: Path, text: str) -> list[Block]:
    """Every fenced bash and python block of a Markdown text, in order."""
    blocks = []
    for match in FENCE.finditer("\n" + text):
        line = text.count("\n", 0, max(match.start("code") - 1, 0)) + 1
        marked = match["before"].strip() == MARK
        language = "python" if match["language"] == "python" else "bash"
        blocks.append(Block(path, line, language, match["code"], marked))
    return blocks


def split_commands(code: str) -> list[str]:
    """One entry per command: continued lines joined, comments and prompts taken off."""
    commands = []
    for line in code.replace("\\\n", " ").splitlines():
        words = re.sub(r"\s+", " ", line.strip().removeprefix("$ "))
        if words and not words.startswith("#"):
            commands.append(re.sub(r"\s+#\s.*$", "", words))
    return commands


def reason_not_to_run(command: str) -> str | None:
    """The reason why a command is not run, or None if it is."""
    return next((reason for pattern, reason in NOT_RUN if re.search(pattern, command)), None)


def _runnable(language: str) -> list[pytest.param]:
    found = []
    for path in DOCUMENTS:
        for block in find_blocks(path, path.read_text(encoding="utf-8")):
            if block.language == language and (path == README or block.marked):
                pieces = split_commands(block.code) if language == "bash" else [block.code]
                for number, piece in enumerate(pieces):
                    if reason_not_to_run(piece) is None:
                        found.append(pytest.param(piece, id=f"{path.name}:{block.line}+{number}"))
    return found


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the checkout, with `python` and `fgclip-det` of this interpreter."""
    folder = tmp_path_factory.mktemp("reader")
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name not in ("outputs", "work_dirs", "build"):
            (folder / entry.name).symlink_to(entry)
    commands = folder / ".venv" / "bin"
    commands.mkdir(parents=True)
    interpreter = shlex.quote(sys.executable)
    call = "import sys; from fgclip_det.cli import main; sys.exit(main())"
    for name, arguments in {"python": "", "python3": "", "fgclip-det": f"-c '{call}'"}.items():
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec {interpreter} {arguments} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    return folder


def _run(arguments: list[str], folder: Path) -> str:
    environment = {
        **os.environ,
        "PATH": f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", _runnable("bash"))
def test_shell_command_works(command: str, scratch: Path) -> None:
    _run(["bash", "-euo", "pipefail", "-c", command], scratch)


@pytest.mark.slow
@pytest.mark.parametrize("code", _runnable("python"))
def test_python_block_works(code: str, scratch: Path) -> None:
    _run([str(scratch / ".venv" / "bin" / "python"), "-c", code], scratch)


@pytest.mark.slow
def test_demo_prints_what_the_readme_shows(scratch: Path) -> None:
    shown = re.search(r"^make demo$.*?^```text\n(.*?)^```", README.read_text("utf-8"), re.M | re.S)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    command = re.search(r"^demo: setup\n\t\$\(BIN\)/(.+)$", makefile, re.MULTILINE)[1]
    assert _run(["bash", "-c", command], scratch).endswith(shown[1])


def test_there_is_a_readme() -> None:
    blocks = find_blocks(README, README.read_text(encoding="utf-8"))
    assert any("make demo" in block.code for block in blocks)


def test_make_targets_in_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)
    for path in [*DOCUMENTS, ROOT / "CONTRIBUTING.md"]:
        text = path.read_text(encoding="utf-8")
        named = re.findall(r"(?:^|`)(?:\w+=\S+ )*make ([a-z][\w-]*)", text, re.MULTILINE)
        assert not set(named) - set(phony.split()), path.name


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    local = [target.split("#")[0] for target in targets if "://" not in target]
    missing = [target for target in local if target and not (path.parent / target).exists()]
    assert not missing


def test_blocks_are_found() -> None:
    text = f"```bash\na\n```\ntext\n{MARK}\n```python\nb\n```\n```text\nc\n```\n"
    blocks = find_blocks(Path("x.md"), text)
    assert [(b.language, b.code, b.marked) for b in blocks] == [
        ("bash", "a\n", False),
        ("python", "b\n", True),
    ]
    assert [block.line for block in blocks] == [2, 7]


def test_commands_are_split() -> None:
    code = '# first\n$ a --x \\\n  "b c"   # why\n\nd\n'
    assert split_commands(code) == ['a --x "b c"', "d"]


def test_listed_commands_are_not_run() -> None:
    assert reason_not_to_run("make demo")
    assert reason_not_to_run("python tools/train.py configs/shapes/ovdet_tiny.py")
    assert reason_not_to_run("fgclip-det demo a.png --texts 'a red circle'") is None
