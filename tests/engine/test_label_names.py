"""A label must have one name in the data and in the detector, or nothing starts."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from fgclip_det.engine import ResumableRunner
from fgclip_det.engine.label_names import check_label_names
from fgclip_det.vocabulary import Vocabulary
from tests.messages import says

NAMES = ["cup", "dog", "bus"]
GROUPS = {"base": ["bus", "cup"], "novel": ["dog"]}


def _vocabulary(names: list[str] = NAMES, groups: dict | None = None) -> Vocabulary:
    return Vocabulary.parse(names, groups=groups)


def _check(classes: object, vocabulary: Vocabulary | None, training: bool) -> None:
    model = SimpleNamespace(training_vocabulary=vocabulary, vocabulary=vocabulary)
    check_label_names(model, SimpleNamespace(metainfo={"classes": classes}), training)


def test_equal_names_pass() -> None:
    for training in (True, False):
        _check(tuple(NAMES), _vocabulary(), training)
    _check(("cup", "bus"), _vocabulary(groups=GROUPS), training=True)
    _check(tuple(NAMES), _vocabulary(groups=GROUPS), training=False)


def test_what_has_no_names_is_not_looked_at() -> None:
    _check((), _vocabulary(), training=True)
    _check(None, _vocabulary(), training=True)
    _check(("a",), None, training=True)
    check_label_names(nn.Linear(1, 1), SimpleNamespace(metainfo={"classes": ("a",)}), True)
    check_label_names(SimpleNamespace(training_vocabulary=_vocabulary()), [], True)


def test_pictures_to_test_on_may_bring_phrases_of_their_own() -> None:
    """Then labels index those; what is trained on has names of the detector's all the same."""

    class Pictures(list):
        metainfo = MappingProxyType({"classes": ("a phrase",)})

        def get_data_info(self, index: int) -> dict:
            return self[index]

    model = SimpleNamespace(training_vocabulary=_vocabulary(), vocabulary=_vocabulary())
    check_label_names(model, Pictures([{"text": ["a dog that sits"]}]), training=False)
    for pictures, training in (
        (Pictures([{"text": ["a dog that sits"]}]), True),
        (Pictures([{"img_id": 1}]), False),
        (Pictures(), False),
    ):
        with pytest.raises(ValueError, match="label 0 is 'a phrase'"):
            check_label_names(model, pictures, training)


@pytest.mark.parametrize(
    ("classes", "groups", "training", "parts"),
    [
        (["dog", "cup", "bus"], None, True, ("label 0", "'dog'", "training", "'cup'")),
        (["cup", "dog"], None, True, ("label 2", "no name", "training", "'bus'")),
        ([*NAMES, "tie"], None, False, ("label 3", "'tie'", "test", "no name")),
        (NAMES, GROUPS, True, ("label 1", "'dog'", "'bus'", "classes='base'")),
        (["bus", "cup"], GROUPS, True, ("label 0", "'bus'", "'cup'")),
    ],
)
def test_the_first_difference_is_named(
    classes: list[str], groups: dict | None, training: bool, parts: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=says("dataset.vocabulary", "model.vocabulary", *parts)):
        _check(classes, _vocabulary(groups=groups), training)


class Named(torch.utils.data.Dataset):
    def __init__(self, classes: tuple[str, ...]) -> None:
        self.metainfo = {"classes": classes}

    def __len__(self) -> int:
        return 2

    def __getitem__(self, row: int) -> dict:
        return dict(x=torch.zeros(1))


class Detector(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.training_vocabulary = self.vocabulary = _vocabulary(groups=GROUPS)

    def forward(self, x: Tensor, mode: str) -> dict[str, Tensor]:
        raise AssertionError("nothing is to start")


@pytest.mark.parametrize("loop", ["train", "val", "test"])
def test_nothing_starts(loop: str, tmp_path: Path) -> None:
    right = {"train": ("cup", "bus"), "val": tuple(NAMES), "test": tuple(NAMES)}
    classes = {**right, loop: ("dog", "bus")}

    def loader(name: str) -> dict:
        sampler = dict(type="DefaultSampler", shuffle=False)
        return dict(batch_size=1, num_workers=0, sampler=sampler, dataset=Named(classes[name]))

    runner = ResumableRunner(
        model=Detector(),
        work_dir=str(tmp_path),
        train_dataloader=loader("train"),
        val_dataloader=loader("val"),
        test_dataloader=loader("test"),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        val_cfg={},
        test_cfg={},
        val_evaluator=[],
        test_evaluator=[],
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        experiment_name=f"labels-{tmp_path.name}",
        log_level="WARNING",
    )
    with pytest.raises(ValueError, match="label 0 is 'dog'"):
        runner.test() if loop == "test" else runner.train()
