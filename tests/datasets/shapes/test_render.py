import numpy as np
import pytest

from fgclip_det.datasets.shapes.render import (
    COLORS,
    IMAGE_SIZE,
    MAX_IOU,
    PATTERNS,
    SHAPES,
    Composition,
    _iou,
    _place,
    paint,
    render,
)


def scene(seed, num_objects):
    rng = np.random.default_rng(seed)
    picks = [
        Composition(rng.choice(list(COLORS)), rng.choice(PATTERNS), rng.choice(SHAPES))
        for _ in range(num_objects)
    ]
    return render(rng, picks)


def test_same_seed_gives_the_same_picture_and_another_seed_another():
    first, again, other = scene(1, 3), scene(1, 3), scene(2, 3)
    assert np.array_equal(first.image, again.image)
    assert first.objects == again.objects
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("num_objects", [1, 2, 3, 4])
def test_boxes_are_inside_of_the_right_size_and_apart(num_objects):
    for seed in range(30):
        drawn = scene(seed, num_objects)
        assert drawn.image.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
        assert drawn.image.dtype == np.uint8
        boxes = [item.box for item in drawn.objects]
        assert len(boxes) == num_objects
        for i, box in enumerate(boxes):
            assert min(box) >= 0 and max(box) <= IMAGE_SIZE
            assert 26 <= max(box[2] - box[0], box[3] - box[1]) <= 64.01
            assert all(_iou(box, other) < MAX_IOU for other in boxes[:i])


@pytest.mark.parametrize("shape", SHAPES)
def test_box_is_tight_to_the_painted_pixels(shape):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        composition = Composition("red", "plain", shape)
        ((outline, hole, box),) = _place(rng, [composition])
        canvas = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.float32)
        paint(rng, canvas, composition, outline, hole)
        ys, xs = np.nonzero(canvas[..., 0])
        painted = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        # A painted pixel may be covered in part only, or a thin tip fall between two samples.
        assert np.abs(np.array(painted) - box).max() <= 1.3


def test_ring_has_a_hole_and_a_circle_none():
    for shape, filled in (("ring", False), ("circle", True)):
        rng = np.random.default_rng(0)
        composition = Composition("white", "plain", shape)
        ((outline, hole, box),) = _place(rng, [composition])
        canvas = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.float32)
        paint(rng, canvas, composition, outline, hole)
        centre = canvas[int((box[1] + box[3]) / 2), int((box[0] + box[2]) / 2)]
        assert bool(centre.sum() > 0) == filled


@pytest.mark.parametrize("color", COLORS)
def test_pattern_adds_a_second_tone(color):
    spreads = {}
    for pattern in PATTERNS:
        rng = np.random.default_rng(3)
        composition = Composition(color, pattern, "square")
        ((outline, hole, box),) = _place(rng, [composition])
        canvas = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.float32)
        paint(rng, canvas, composition, outline, hole)
        y, x = int((box[1] + box[3]) / 2), int((box[0] + box[2]) / 2)
        spreads[pattern] = np.ptp(canvas[y - 8 : y + 8, x - 8 : x + 8].sum(axis=2))
    assert spreads["plain"] < 1
    assert min(spreads[p] for p in PATTERNS if p != "plain") > 60


@pytest.mark.parametrize("num_objects", [0, 5])
def test_number_of_objects_is_checked(num_objects):
    with pytest.raises(ValueError, match=f"{num_objects} objects: give 1 to 4"):
        scene(0, num_objects)
