"""What the training set left out stands in the log."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from fgclip_det.engine import LeftOutHook


class LeftOut:
    kinds = ("a broken picture", "a missing box")

    def __init__(self):
        self.numbers = [0, 0]

    @property
    def counts(self):
        return torch.tensor(self.numbers)


def runner_of(dataset):
    said = []
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))
    logger = SimpleNamespace(info=said.append)
    return SimpleNamespace(train_loop=loop, logger=logger, iter=0), said


def test_it_is_said_now_and_then_where_something_came_to_it_and_at_the_end():
    left_out = LeftOut()
    runner, said = runner_of(SimpleNamespace(left_out=left_out))
    hook = LeftOutHook(interval=10)
    for iteration in range(40):
        runner.iter = iteration
        if iteration == 15:
            left_out.numbers = [3, 0]
        hook.after_train_iter(runner, iteration)
    assert [line.split(": ")[1] for line in said] == ["nothing", "3 x a broken picture"]
    left_out.numbers = [3, 5]
    hook.after_train_epoch(runner)
    hook.after_train_epoch(runner)
    assert said[2:] == [said[2]] * 2 and "3 x a broken picture, 5 x a missing box" in said[2]


def test_other_data_sets_have_nothing_to_say():
    runner, said = runner_of([1, 2])
    LeftOutHook(interval=1).after_train_iter(runner, 0)
    assert said == []
