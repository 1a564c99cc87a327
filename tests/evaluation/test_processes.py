"""Work that processes share."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch

from fgclip_det.evaluation import processes


def test_alone_nothing_is_put_together() -> None:
    parts = torch.ones(2)
    assert processes.process_number() == (0, 1) and processes.put_together(parts) is parts


def test_another_process_that_ended_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "process_number", lambda: (1, 2))
    broken = Mock(side_effect=RuntimeError("gloo/transport/tcp/pair.cc:547 Connection closed"))
    monkeypatch.setattr(processes.dist, "all_reduce", broken)
    with pytest.raises(OSError, match="another of torchrun's processes ended") as caught:
        processes.put_together(torch.ones(2))
    assert caught.value.__cause__ is None and "gloo" not in str(caught.value)
