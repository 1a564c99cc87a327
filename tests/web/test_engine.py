"""The model behind the page: what it keeps, and what it says where there is none."""

from __future__ import annotations

import time
from pathlib import Path

from fgclip_det.web.engine import Engine
from fgclip_det.web.question import Question
from fgclip_det.web.snippets import Model


def read(engine: Engine) -> Engine:
    """Waits until the model is there, or cannot be."""
    engine.start()
    for _ in range(6000):
        if engine.is_ready or engine.error is not None:
            return engine
        time.sleep(0.1)
    raise AssertionError(engine.state)


def test_what_is_typed_fills_no_folder(cached_detector, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cached_detector.model, "text_cache_dir", str(tmp_path))
    engine = read(Engine(Model(), None))
    assert (engine.error, engine.share) == (None, 1.0)
    session = engine.session()
    for key in session.pictures:
        session.look(key)
    answers, _ = session.ask(Question("a blue dotted star"))
    assert [len(one.found) for one in answers.values()] == [1, 0, 0]
    assert list(tmp_path.iterdir()) == []
    engine.stop()


def test_what_is_no_picture_is_a_line(cached_detector, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello", encoding="utf-8")
    engine = read(Engine(Model(), [str(tmp_path)]))
    assert not engine.is_ready
    assert "a.png" in engine.error and "\n" not in engine.error
    engine.stop()
