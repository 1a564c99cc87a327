"""What has to be equal in all processes, and what is said where it is not."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from fgclip_det.engine.launch import same_everywhere
from fgclip_det.engine.launch.same_everywhere import check_same_everywhere, fingerprint
from tests.messages import says


def _config(lr: float = 0.1) -> Config:
    return Config({"optimizer": {"lr": lr}, "hooks": [{"type": "A"}, {"type": "B"}]})


def test_a_fingerprint_tells_each_setting_and_file() -> None:
    found = fingerprint(_config())
    assert found["config optimizer.lr"] == "0.1" and found["config hooks.1.type"] == "'B'"
    assert len(found["file fgclip_det/engine/launch/same_everywhere.py"]) == 16
    assert found == fingerprint(_config()) != fingerprint(_config(0.2))
    assert {"Python", "package torch", "operators of cpu"} <= {*found}


def test_a_file_that_the_config_imports_counts(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "module_of_mine.py"
    path.write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = Config({"custom_imports": {"imports": ["module_of_mine"]}})
    __import__("module_of_mine")
    before = fingerprint(config)["module module_of_mine"]
    path.write_text("x = 2\n")
    assert fingerprint(config)["module module_of_mine"] != before


@pytest.mark.parametrize(
    ("key", "there", "message"),
    [
        ("file fgclip_det/a.py", "feed", "in file fgclip_det/a.py ('feed', not 'none')"),
        ("config optimizer.lr", "0.2", "in config optimizer.lr ('0.2', not '0.1')"),
        ("package torch", "1.0", "in package torch ('1.0', not "),
    ],
)
def test_the_process_that_differs_is_named(
    key: str, there: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_gather_object(everyone: list, mine: tuple, group: None) -> None:
        everyone[:] = [mine, mine, ("n7", {**mine[1], key: there})]

    monkeypatch.setattr(same_everywhere, "get_world_size", lambda: 3)
    monkeypatch.setattr(same_everywhere, "patient_group", lambda: None)
    monkeypatch.setattr(same_everywhere.dist, "all_gather_object", all_gather_object)
    with pytest.raises(ValueError, match=says("process 2 (on n7) differs from process 0")) as told:
        check_same_everywhere(_config())
    assert message in str(told.value)


def test_one_process_is_like_itself() -> None:
    check_same_everywhere(_config())
