"""A few pictures of Shapes with queries, and the bundled detector."""

from __future__ import annotations

from pathlib import Path

import pytest

from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.datasets.shapes import generate


@pytest.fixture(scope="session")
def queries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """File and folder of "tune" and "test"."""
    root = tmp_path_factory.mktemp("presence")
    generate(root, {"presence_val": 10, "presence_test": 12}, seed=3)
    return {
        use: (root / "annotations" / f"{split}_presence.json", root / split)
        for use, split in (("tune", "presence_val"), ("test", "presence_test"))
    }


@pytest.fixture(scope="session")
def bundled() -> OpenVocabInferencer:
    """Tests leave it as it is."""
    return OpenVocabInferencer(device="cpu")
