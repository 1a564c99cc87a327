"""Which errors mean that another process is gone, and what is made of them."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from fgclip_det.engine.launch import linked_processes as module
from fgclip_det.engine.launch.linked_processes import is_lost_connection, linked_processes
from fgclip_det.exit_codes import OtherProcessError

GONE = "[/x/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:5"
LATE = (
    "[/x/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 9ms for recv"
)


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (RuntimeError(GONE), True),
        (RuntimeError(LATE), True),
        (dist.DistBackendError("NCCL communicator was aborted on rank 1."), True),
        (RuntimeError("[/x/gloo/gloo/allreduce.cc:1] op.preamble.length <= op.nbytes"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError(GONE), False),
    ],
)
def test_lost_connections(error: Exception, is_lost: bool) -> None:
    assert is_lost_connection(error) is is_lost


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dist.HashStore:
    """Makes this process the second of two, which share a store."""
    store = dist.HashStore()
    monkeypatch.setattr(module.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(module.dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(module, "_store", lambda: store)
    monkeypatch.setattr(module, "get_rank", lambda: 1)
    monkeypatch.setattr(module, "get_world_size", lambda: 2)
    return store


def _end(error: Exception) -> Exception:
    kind = OtherProcessError if is_lost_connection(error) else type(error)
    with pytest.raises(kind) as told, linked_processes():
        raise error
    return told.value


def test_the_first_reason_is_told(store: dist.HashStore) -> None:
    for error in (ValueError("a broken picture"), ValueError("another")):
        assert _end(error) is error
    told = str(_end(RuntimeError(GONE)))
    assert told == "process 1 of 2 ends, as process 1 did: a broken picture"


def test_without_a_reason(store: dist.HashStore) -> None:
    assert "1 of 2 ends: another one is gone (killed" in str(_end(RuntimeError(GONE)))
    late = str(_end(RuntimeError(LATE)))
    assert "did not answer within the limit of env_cfg.dist_cfg.timeout" in late


def test_alone_an_error_is_what_it_is() -> None:
    error = RuntimeError(GONE)
    with pytest.raises(RuntimeError) as told, linked_processes():
        raise error
    assert told.value is error
