"""The benchmark of what is shown, on a few pictures."""

import json

import numpy as np

from benchmarks import exemplar_settings, exemplars
from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.datasets.shapes import generate


def test_tables(tmp_path, capsys):
    few = {"val": 3, "exemplars": 90, "val_exemplars": 90, "presence_val": 2, "presence_test": 2}
    generate(tmp_path, few, seed=1)
    pool = exemplars.Pictures(tmp_path, "exemplars").exemplars()
    assert all(pool.values())
    one, same, other = (exemplars.drawn(pool, 1, seed) for seed in (0, 0, 1))
    assert one == same != other
    assert exemplars.asked(one, with_texts=False).prompts[0] == ()
    options = ["--shapes", str(tmp_path), "--draws", "1", "--own", "2", "--asked", "2"]
    exemplars.main([*options, "--out", str(tmp_path / "out.json")])
    page = capsys.readouterr().out
    results = json.loads((tmp_path / "out.json").read_text())
    assert {"text", "1 exemplar", "5 exemplars", "text and 5 exemplars"} <= {*results["AP50"]}
    assert "| 5 exemplars |" in page and "near misses" in page
    assert results["own"]["exemplars"] == 2


def test_exemplars_of_what_a_name_is_not_differ_in_one_word(tmp_path):
    generate(tmp_path, {"val_exemplars": 12}, seed=1)
    pictures = exemplars.Pictures(tmp_path, "val_exemplars")
    names = {one: name for name, own in pictures.exemplars().items() for one in own}
    near = exemplars._near(OpenVocabInferencer(device="cpu"), pictures)
    for name, own in near.items():
        assert all(len({*other.split()} - {*name.split()}) == 1 for other, _ in own)
        assert all(names[one] == other for other, one in own)
        assert len(exemplars._of_each(own)) == len({other for other, _ in own})
    assert any(near.values())


def test_settings_are_told_apart():
    assert set(exemplar_settings.CHOICES) == {"boxes", "crops", "text and boxes"}
    assert exemplar_settings._cells([np.array([1.0, 2.0]), np.array([3.0, 2.0])]) == ["2.0", "2.0"]
