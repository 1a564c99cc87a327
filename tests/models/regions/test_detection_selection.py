import pytest
import torch
from torchvision.ops import box_iou

from fgclip_det.models.regions import detection_selection as module
from fgclip_det.models.regions.detection_selection import (
    Candidates,
    Ranked,
    select_detections,
)

BOXES = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 9], [20.0, 20, 30, 30]])
SCORES = torch.tensor([[0.9, 0.1], [0.8, 0.7], [0.3, 0.2]])

ROOM = "fgclip_det.models.regions.detection_selection"


def select(boxes=BOXES, scores=SCORES, **settings):
    settings = {"score_thr": 0.05, "iou_threshold": 0.5, "max_per_img": 10, **settings}
    return select_detections(boxes, scores, **settings)


def triples(detections):
    rows = zip(detections.regions, detections.labels, detections.scores, strict=True)
    return [(int(r), int(c), round(float(s), 3)) for r, c, s in rows]


def test_each_category_is_suppressed_by_itself():
    assert triples(select()) == [(0, 0, 0.9), (1, 1, 0.7), (2, 0, 0.3), (2, 1, 0.2)]


def test_class_agnostic_keeps_one_category_for_a_place():
    assert triples(select(class_agnostic=True)) == [(0, 0, 0.9), (2, 0, 0.3)]


def test_threshold_and_limit():
    assert triples(select(score_thr=0.25, max_per_img=2)) == [(0, 0, 0.9), (1, 1, 0.7)]
    assert len(select(score_thr=0.95)) == 0


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_select_from(shape, class_agnostic):
    boxes = torch.rand(shape[0], 4)
    got = select(boxes, torch.rand(shape), class_agnostic=class_agnostic)
    assert len(got) == 0
    assert got.bboxes.shape == (0, 4)
    assert got.labels.dtype == torch.int64


def greedy(boxes, scores, iou_threshold, class_agnostic, contradictory=()):
    """All survivors by the definition: one candidate after another."""
    iou = box_iou(boxes, boxes)
    contrary = {*contradictory, *((two, one) for one, two in contradictory)}
    kept = []
    order = scores.flatten().argsort(descending=True, stable=True)
    for row, column in [divmod(int(i), scores.shape[1]) for i in order]:
        rivals = [r for r, c in kept if class_agnostic or c == column or (c, column) in contrary]
        if not any(iou[row, r] > iou_threshold for r in rivals):
            kept.append((row, column))
    return kept


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("max_per_img", [3, 30, 500])
def test_equals_the_definition(max_per_img, class_agnostic, monkeypatch):
    monkeypatch.setattr(f"{ROOM}._CANDIDATES_PER_DETECTION", 2)
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(40, 2, generator=generator) * 20
    boxes = torch.cat([corners, corners + 10], dim=1)
    scores = torch.rand(40, 6, generator=generator)
    expected = greedy(boxes, scores, 0.4, class_agnostic)[:max_per_img]
    settings = dict(score_thr=0.0, iou_threshold=0.4, max_per_img=max_per_img)
    for joint in (20_000, 10):
        monkeypatch.setattr(f"{ROOM}._MAX_JOINT_CANDIDATES", joint)
        got = select_detections(boxes, scores, class_agnostic=class_agnostic, **settings)
        assert list(zip(got.regions.tolist(), got.labels.tolist(), strict=True)) == expected


def test_the_last_of_many_names_is_suppressed_as_the_first():
    # The two overlap by 0.4 less 1e-5; moved apart in float32, they would not by 5000 names.
    boxes = torch.tensor([[600.0, 600, 614.00021, 610], [608.0, 600, 622, 610]])
    iou = float(box_iou(boxes[:1], boxes[1:]))
    scores = torch.zeros(2, 5000)
    scores[:, 0] = scores[:, -1] = torch.tensor([0.9, 0.8])
    for threshold, survivors in ((iou - 1e-6, 1), (iou + 1e-6, 2)):
        got = select(boxes, scores, iou_threshold=threshold)
        assert [(got.labels == label).sum() for label in (0, 4999)] == [survivors] * 2


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_blocks_of_rows_give_what_the_whole_gives(class_agnostic):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(30, 2, generator=generator) * 20
    boxes = torch.cat([corners, corners + 10], dim=1)
    scores = torch.rand(30, 7, generator=generator)
    expected = select(boxes, scores, class_agnostic=class_agnostic)
    blocks = iter(scores.split([11, 0, 1, 18]))
    got = select(boxes, blocks, class_agnostic=class_agnostic)
    assert triples(got) == triples(expected) and len(got) == 10


def test_of_equal_scores_the_first_are_looked_at(monkeypatch):
    monkeypatch.setattr(f"{ROOM}._CANDIDATES_PER_DETECTION", 1)
    # Far apart, so that nothing is suppressed: 5 and 6 are better, of the others the order decides.
    corners = 100.0 * torch.arange(8)[:, None].repeat(1, 2)
    scores = torch.full((8, 3), 0.5)
    scores[5, 1] = scores[6, 0] = 0.75
    got = select(torch.cat([corners, corners + 10], dim=1), scores, max_per_img=5)
    assert triples(got)[:2] == [(5, 1, 0.75), (6, 0, 0.75)]
    assert triples(got)[2:] == [(0, 0, 0.5), (0, 1, 0.5), (0, 2, 0.5)]


@pytest.mark.parametrize("max_per_img", [3, 30, 500])
@pytest.mark.parametrize(
    "contradictory", [[], [(1, 4)], [(4, 1), (1, 4), (1, 1)], [(0, 1), (2, 1), (3, 5)]]
)
def test_contradictory_categories_by_the_definition(contradictory, max_per_img, monkeypatch):
    monkeypatch.setattr(f"{ROOM}._CANDIDATES_PER_DETECTION", 2)
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(40, 2, generator=generator) * 20
    boxes = torch.cat([corners, corners + 10], dim=1)
    scores = torch.rand(40, 6, generator=generator)
    expected = greedy(boxes, scores, 0.4, False, contradictory)[:max_per_img]
    pairs = torch.tensor(contradictory, dtype=torch.int64).reshape(-1, 2)
    settings = dict(score_thr=0.0, iou_threshold=0.4, max_per_img=max_per_img)
    got = select_detections(boxes, scores, contradictory=pairs, **settings)
    assert list(zip(got.regions.tolist(), got.labels.tolist(), strict=True)) == expected
    if contradictory and max_per_img == 500:
        assert len(got) < len(greedy(boxes, scores, 0.4, False))


def test_whom_a_dropped_one_would_have_dropped_may_stay():
    # Of three boxes in a row each overlaps the next alone.
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    scores = torch.tensor([[0.9, 0.0], [0.0, 0.8], [0.0, 0.7]])
    pairs = torch.tensor([[0, 1]])
    got = select(boxes, scores, iou_threshold=0.3, contradictory=pairs)
    assert triples(got) == [(0, 0, 0.9), (2, 1, 0.7)]
    assert triples(select(boxes, scores, iou_threshold=0.3)) == [(0, 0, 0.9), (1, 1, 0.8)]


def test_equal_ranks_of_contradictory_categories_leave_the_first():
    scores = torch.tensor([[0.5, 0.5]])
    got = select(BOXES[:1], scores, contradictory=torch.tensor([[1, 0]]))
    assert triples(got) == [(0, 0, 0.5)]


def test_values_go_with_what_they_are_ranked_by():
    def ranked(scores):
        return Ranked(scores, {"scores": 1 - scores, "confidences": scores / 2})

    got = select(scores=map(ranked, SCORES.split([2, 1])))
    places = zip(got.regions.tolist(), got.labels.tolist(), strict=True)
    assert [*places] == [(0, 0), (1, 1), (2, 0), (2, 1)]
    torch.testing.assert_close(got.scores, 1 - torch.tensor([0.9, 0.7, 0.3, 0.2]))
    torch.testing.assert_close(got.confidences, torch.tensor([0.9, 0.7, 0.3, 0.2]) / 2)
    agnostic = select(scores=[ranked(SCORES)], class_agnostic=True)
    torch.testing.assert_close(agnostic.confidences, torch.tensor([0.45, 0.15]))


def test_some_rows_of_a_block_are_those_of_its_boxes():
    first = Ranked(SCORES[1:2], {"scores": SCORES[1:2]}, torch.tensor([1]), 2)
    last = Ranked(SCORES[2:], {"scores": SCORES[2:]}, torch.tensor([0]), 1)
    got = select(scores=[first, last])
    assert triples(got) == [(1, 0, 0.8), (1, 1, 0.7), (2, 0, 0.3), (2, 1, 0.2)]


@pytest.mark.parametrize("shape", [(40, 6400), (40, 6437), (3, 70_001), (200_000, 1), (4000, 63)])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3])
def test_few_candidates_among_many_are_all_found(shape: tuple[int, int], share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(shape, generator=generator)
    scores = torch.where(torch.rand(shape, generator=generator) < share, scores, 0.0)
    scores[-1, -1] = 0.5  # in what is left of the last group
    # A slice of a wider matrix, as logits without their background are.
    wider = torch.cat([scores, torch.ones(len(scores), 1)], dim=1)
    rows, columns = module._above(wider[:, :-1], 0.1)
    assert len(rows) >= 1
    assert torch.equal(torch.stack([rows, columns], dim=1), (scores > 0.1).nonzero())


def test_nan_among_many_is_refused() -> None:
    scores = torch.zeros(40, 6437)
    scores[7, 6430] = torch.nan
    with pytest.raises(ValueError, match="scores of 1 of 40 boxes are NaN"):
        select(torch.rand(40, 4), scores)


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("score_thr", [-1.0, 0.05, 0.5, 2.0])
def test_candidates_alone_give_what_all_scores_give(score_thr: float, class_agnostic: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(40, 2, generator=generator) * 20
    boxes = torch.cat([corners, corners + 10], dim=1)
    # Steps, so that some names of a box are equally likely.
    scores = (torch.rand(40, 6, generator=generator) * 10).round() / 10
    settings = dict(score_thr=score_thr, class_agnostic=class_agnostic)
    expected = select(boxes, scores, **settings)
    parts = []
    for some in scores.split((25, 0, 15)):
        rows, columns = (some > score_thr).nonzero(as_tuple=True)
        values = some[rows, columns]
        parts.append(Candidates(rows, columns, values, {"scores": values}, len(some)))
    got = select(boxes, parts, **settings)
    assert triples(got) == triples(expected) and torch.equal(got.bboxes, expected.bboxes)
    for part, some in zip(parts, scores.split((25, 0, 15)), strict=True):
        best = module.best_of_rows(part)
        if len(some):
            values, columns = some.max(dim=1)
            rows = (values > score_thr).nonzero().squeeze(1)
            assert torch.equal(best.rows, rows) and torch.equal(best.columns, columns[rows])
            assert torch.equal(best.rank, values[rows])
            assert torch.equal(best.values["scores"], values[rows])


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_candidates_that_are_nan_are_refused(class_agnostic: bool) -> None:
    rows, columns = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 1])
    rank = torch.tensor([0.5, 0.9, torch.nan, torch.nan])
    some = Candidates(rows, columns, rank, {"scores": rank}, 3)
    for block in (some, module.best_of_rows(some)):
        with pytest.raises(ValueError, match="scores of 2 of 3 boxes are NaN"):
            select(scores=[block], class_agnostic=class_agnostic)
