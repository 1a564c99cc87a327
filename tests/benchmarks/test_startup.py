"""The benchmark of the start counts what children take, and adds up what it tells."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pytest

from benchmarks import startup

SPIN = "import time\nwhile time.process_time() < {}: pass"


def test_cpu_time_is_that_of_the_child_alone() -> None:
    # Sleeping takes none.
    idle = startup.cpu_seconds([sys.executable, "-c", "import time; time.sleep(0.5)"])
    busy = startup.cpu_seconds([sys.executable, "-c", SPIN.format(0.6)])
    assert 0 < idle < 0.5 < 0.59 < busy < 2


def test_steps_add_up_and_the_ratio_is_within_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def cpu_seconds(command: list[str]) -> float:
        seen.append(command[-1])
        return 4.0 if "demo" in command else 2.0 + command[-1].count("\n")

    monkeypatch.setattr(startup, "cpu_seconds", cpu_seconds)
    out = tmp_path / "new" / "cpu.json"
    assert startup.main(["--threads", "1", "--rounds", "3", "--out", str(out)]) == 0
    (record,) = json.loads(out.read_text(encoding="utf-8"))["cases"]
    assert record["ratio"] == {"median": 2.0, "min": 2.0, "max": 2.0}
    assert len(seen) == 1 + 3 * (len(startup.STEPS) + 1)
    text = out.with_suffix(".md").read_text(encoding="utf-8")
    assert "| base | 2.00 |  |" in text and "| mmdet.models | 5.00 | +1.00 |" in text
    assert "**2.00** (2.00 to 2.00)" in text and "| fgclip-det demo | 4.00 |  |" in text


def test_each_step_does_what_those_before_it_do() -> None:
    each = startup.commands("out")
    scripts = [command[-1] for name, command in each.items() if name != startup.DEMO]
    assert all(after.startswith(before) for before, after in itertools.pairwise(scripts))
    assert each[startup.DEMO][-3:] == ["demo", "--out-dir", "out"]


@pytest.mark.slow
def test_the_last_step_runs_and_with_it_all_others() -> None:
    *_, last, _ = startup.commands("out").values()
    assert startup.cpu_seconds(last) > 1


def test_a_failing_step_and_bad_numbers_are_told(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "x.json")]
    assert startup.main(["--threads", "0", *out]) == 2
    assert "--threads" in capsys.readouterr().err
    monkeypatch.setattr(
        startup, "commands", lambda _: {startup.DEMO: [sys.executable, "-c", "1/0"]}
    )
    assert startup.main(["--threads", "1", *out]) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err
