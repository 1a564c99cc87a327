"""The file of results of one encoder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fgclip_det.evaluation.encoder import (
    Population,
    Result,
    add_result,
    check_results,
    details_path,
)
from fgclip_det.evaluation.encoder.data_sets import Retrieval

METRICS = {"i2t_r1": 0.25, "t2i_r1": 0.5}


@pytest.fixture
def result() -> Result:
    whole = Population(METRICS, METRICS, METRICS, {"i2t": 3, "t2i": 0}, {"pictures": 7})
    published = replace(whole, metrics={"i2t_r1": 1.0, "t2i_r1": 0.0}, counts={"pictures": 5})
    return Result(
        protocol="dci",
        family="fgclip",
        width=32,
        fingerprint="ab" * 8,
        as_published=published,
        whole_population=whole,
        listed={"pictures": 9},
        missing=["a.jpg", "b.jpg"],
        settings={"size": 64},
        record=Retrieval([], [], []),
        arrays={"image_features": np.zeros((2, 3))},
    )


def test_results_are_added_and_replaced(result: Result, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    add_result(out, result)
    numbers = {
        "as_published.i2t_r1": 1.0,
        "as_published.t2i_r1": 0.0,
        "whole_population.i2t_r1": 0.25,
        "whole_population.t2i_r1": 0.5,
    }
    assert json.loads(out.read_text(encoding="utf-8")) == {"dci": numbers}
    add_result(out, replace(result, protocol="urban-1k"), name="a variant")
    changed = replace(result, as_published=Population())
    add_result(out, changed)
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["a variant"] == numbers
    assert found["dci"].keys() == {"whole_population.i2t_r1", "whole_population.t2i_r1"}
    details = json.loads(details_path(out).read_text(encoding="utf-8"))
    assert details["dci"]["missing"] == ["a.jpg", "b.jpg"] and details["dci"]["settings"]
    assert details["a variant"]["protocol"] == "urban-1k"
    assert details["dci"]["whole_population"]["ties"] == {"i2t": 3, "t2i": 0}


def test_a_file_belongs_to_one_encoder(result: Result, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    add_result(out, result)
    before = out.read_bytes(), details_path(out).read_bytes()
    with pytest.raises(ValueError, match=r"another encoder.*'abababababababab'.*'cd'"):
        check_results(out, "cd")
    with pytest.raises(ValueError, match="another encoder"):
        add_result(out, replace(result, fingerprint="cd"), "b")
    assert (out.read_bytes(), details_path(out).read_bytes()) == before
    details_path(out).unlink()
    with pytest.raises(ValueError, match=r"no 'results\.details\.json' beside it"):
        check_results(out, result.fingerprint)


def test_details_alone_are_not_written_over(result: Result, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    details_path(out).write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match=r"results\.details\.json"):
        check_results(out, result.fingerprint)
    # As a run leaves them that is killed between the two files.
    details_path(out).unlink()
    add_result(out, result)
    out.unlink()
    with pytest.raises(ValueError, match="another encoder"):
        check_results(out, "cd")
    add_result(out, result, "b")
    assert json.loads(details_path(out).read_text(encoding="utf-8")).keys() == {"dci", "b"}
    assert json.loads(out.read_text(encoding="utf-8")).keys() == {"b"}


def test_results_without_details_are_nobodys(result: Result, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    add_result(out, result)
    add_result(out, result, "b")
    details = json.loads(details_path(out).read_text(encoding="utf-8"))
    details_path(out).write_text(json.dumps({"b": details["b"]}), encoding="utf-8")
    with pytest.raises(ValueError, match="does not tell whose results 'dci'"):
        check_results(out, result.fingerprint)


@pytest.mark.parametrize("content", ["[]", '{"a": 1}', "{", ""])
def test_files_of_another_kind(result: Result, tmp_path: Path, content: str) -> None:
    out = tmp_path / "results.json"
    for path in (out, details_path(out)):
        out.write_text("{}", encoding="utf-8")
        details_path(out).write_text("{}", encoding="utf-8")
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError) as caught:
            add_result(out, result)
        assert path.name in str(caught.value) and "\n" not in str(caught.value)
        assert path.read_text(encoding="utf-8") == content
