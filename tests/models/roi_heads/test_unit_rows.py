import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
import torch.nn.functional as F

from fgclip_det.models.roi_heads import unit_rows
from fgclip_det.models.roi_heads.unit_rows import UnitRows


@pytest.fixture
def texts() -> torch.Tensor:
    return torch.randn(7, 24, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> UnitRows:
    """Rows that tell in `lengths_of` of how many embeddings the lengths were taken, each time."""

    def counted(embeddings: torch.Tensor, dim: int) -> torch.Tensor:
        rows.lengths_of.append(1 if embeddings.ndim == 1 else len(embeddings))
        return F.normalize(embeddings, dim=dim)

    monkeypatch.setattr(unit_rows, "F", type("F", (), {"normalize": staticmethod(counted)}))
    rows = UnitRows()
    rows.lengths_of = []
    return rows


@torch.no_grad()
def test_kept_rows_are_those_made_anew_to_the_bit(texts: torch.Tensor) -> None:
    for size in (1, 24, 128, 511, 512):
        some, last = torch.randn(1001, size), torch.randn(size)
        with torch.enable_grad():
            anew = UnitRows()(some, last)
        kept = UnitRows()
        for _ in range(2):
            assert torch.equal(kept(some, last), anew)
        assert torch.equal(kept(some), anew[:-1])


@torch.no_grad()
def test_lengths_of_one_vocabulary_are_taken_once(rows: UnitRows, texts: torch.Tensor) -> None:
    background = torch.randn(24)
    for _ in range(3):
        rows(texts, background)
    assert rows.lengths_of == [7, 1, 1, 1]


@torch.no_grad()
def test_more_than_a_limit_is_not_kept(rows: UnitRows, texts: torch.Tensor, monkeypatch) -> None:
    monkeypatch.setattr(unit_rows, "_MOST_KEPT", 7 * 24 - 1)
    rows(texts)
    rows(texts)
    assert rows.lengths_of == [7, 7]


@torch.no_grad()
def test_what_changes_is_seen(texts: torch.Tensor) -> None:
    rows, last = UnitRows(), torch.randn(24)

    def check(some: torch.Tensor) -> None:
        expected = F.normalize(torch.cat([some.float(), last[None]]), dim=-1)
        assert torch.equal(rows(some, last), expected)

    check(texts)
    texts[3] = 1.0
    check(texts)
    # The last row is not asked for its version: averaged weights are put in place behind it.
    last.data.copy_(torch.ones(24))
    check(texts)
    check(texts[:4])
    check(texts.clone())
    check(texts.half())
    check(texts.double())
    texts.data = torch.randn(7, 24)
    check(texts)
    check(torch.randn(0, 24))


def test_gradients_flow_and_what_they_need_is_not_written_into(texts: torch.Tensor) -> None:
    rows, last = UnitRows(), torch.randn(24, requires_grad=True)
    with torch.no_grad():
        rows(texts, last)
    regions = torch.randn(5, 24, requires_grad=True)
    first = regions @ rows(texts, last).T
    rows(texts, torch.randn(24))
    first.sum().backward()
    assert last.grad is not None and regions.grad is not None
    with torch.inference_mode():
        made = rows(texts, last)
    with torch.no_grad():
        assert torch.equal(rows(texts, last), made)


@torch.no_grad()
def test_what_is_compiled_exported_traced_or_mapped_takes_other_texts(texts) -> None:
    class Rows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = UnitRows()

        def forward(self, some: torch.Tensor) -> torch.Tensor:
            return self.rows(some) * 2

    rows, others = Rows(), texts.flip(0) + 1
    expected, other = rows(texts), F.normalize(others, dim=-1) * 2
    assert torch.equal(torch.jit.trace(rows, texts)(others), other)
    exported = torch.export.export(rows, (texts,), strict=True).module()
    compiled = torch.compile(rows, fullgraph=True, backend="eager")
    for one in (exported, compiled, rows):
        assert torch.equal(one(others), other)
    mapped = torch.vmap(rows)(torch.stack([texts, others]))
    torch.testing.assert_close(mapped, torch.stack([expected, other]))


def test_a_copy_and_what_is_pickled(texts: torch.Tensor) -> None:
    rows = UnitRows()
    with torch.no_grad():
        expected = rows(texts)
        for other in (copy.deepcopy(rows), pickle.loads(pickle.dumps(rows))):
            assert torch.equal(other(texts), expected)


@torch.no_grad()
def test_a_tensor_that_is_gone_leaves_no_rows_to_another(texts: torch.Tensor) -> None:
    rows = UnitRows()
    for seed in range(20):
        some = torch.randn(7, 24, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(rows(some), F.normalize(some, dim=-1))
        del some


def test_threads_that_ask_for_different_vocabularies() -> None:
    rows, background, together = UnitRows(), torch.ones(24), Barrier(4)

    def ask(seed: int) -> None:
        texts = torch.randn(7, 24, generator=torch.Generator().manual_seed(seed))
        expected = F.normalize(torch.cat([texts, background[None]]), dim=-1)
        together.wait()
        with torch.no_grad():
            for _ in range(1000):
                assert torch.equal(rows(texts, background), expected)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(ask, range(4)))
    finally:
        sys.setswitchinterval(before)
