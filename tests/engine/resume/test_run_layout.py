import pytest

from fgclip_det.engine.resume.run_layout import RunLayout, check_parts, resumed_layout
from tests.messages import says

SAVED = RunLayout(parts=4, batch_size=6, accumulative_counts=2)


def _resumed(processes, batch_size=6, parts=None, counts=2, can_be_dealt=True):
    asked = RunLayout(parts or processes, batch_size, counts)
    return resumed_layout(SAVED, asked, processes, can_be_dealt)


@pytest.mark.parametrize(
    ("processes", "parts", "batch_size"),
    [(1, 4, 6), (2, 4, 6), (4, 4, 6), (3, 12, 2), (6, 12, 2), (8, 8, 3), (12, 12, 2), (24, 24, 1)],
)
def test_parts_are_kept_or_cut(processes, parts, batch_size):
    assert _resumed(processes) == RunLayout(parts, batch_size, 2)


def test_a_batch_that_was_set_to_fit_is_taken():
    assert _resumed(1, batch_size=24) == RunLayout(1, 24, 2)
    assert _resumed(8, batch_size=3) == RunLayout(8, 3, 2)
    assert _resumed(2, batch_size=3, parts=8) == RunLayout(8, 3, 2)


@pytest.mark.parametrize(
    ("processes", "working"),
    [(5, "1 or 2 or 3 or 4 or 6 or 8"), (7, "3 or 4 or 6 or 8 or 12"), (100, "6 or 8 or 12 or 24")],
)
def test_numbers_that_cannot_share_an_iteration_are_refused(processes, working):
    with pytest.raises(ValueError, match=says(f"{processes} processes", "24 samples", working)):
        _resumed(processes)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (dict(processes=4, batch_size=8), ("4 batches of 8", "32", "24", "batch_size to 6")),
        (dict(processes=1, batch_size=12), ("1 batches of 12", "24", "batch_size to 6")),
        (dict(processes=1, parts=3), ("3 batches of 6", "24", "train_cfg.parts")),
        (dict(processes=4, counts=1), ("accumulative_counts is 1", "with 2", "load_from")),
        # The batches of an update by hand, twice as many on half the processes.
        (dict(processes=2, counts=4), ("accumulative_counts is 4", "fewer processes")),
        (dict(processes=2, can_be_dealt=False), ("on 4 processes", "2 processes", "start 4")),
    ],
)
def test_another_batch_is_refused(asked, named):
    with pytest.raises(ValueError, match=says(*named)):
        _resumed(**asked)


def test_what_cannot_be_dealt_goes_on_on_as_many_processes():
    assert _resumed(4, can_be_dealt=False) == SAVED


def test_parts_of_a_new_run():
    assert check_parts(None, 3) == 3
    assert check_parts(8, 2) == 8
    with pytest.raises(ValueError, match=says("train_cfg.parts is 8", "3 processes", "2 or 4")):
        check_parts(8, 3)
