"""Results as Markdown."""

from fgclip_det.fg_ovd import evaluate_fg_ovd, sweep_fg_ovd
from fgclip_det.fg_ovd.tables import result_table, sweep_table

BOX = [10.0, 10.0, 50.0, 50.0]
DATA = {
    "images": [{"id": 0}, {"id": 1}],
    "categories": [{"id": i, "name": str(i)} for i in range(6)],
    "annotations": [
        {
            "id": i,
            "image_id": i,
            "category_id": 3 * i,
            "neg_category_ids": [3 * i + 1, 3 * i + 2],
            "bbox": [10.0, 10.0, 40.0, 40.0],
        }
        for i in (0, 1)
    ],
}
PREDICTIONS = [(0, [BOX], [[0.9, 0.1, 0.1]])]


def test_each_result_is_a_line():
    result = evaluate_fg_ovd(DATA, PREDICTIONS, 2)
    strict = evaluate_fg_ovd(DATA, PREDICTIONS, 2, strict=True)
    plain = evaluate_fg_ovd(DATA, PREDICTIONS, 2, with_ranks=False)
    lines = result_table({"mine | its": result, "strict": strict, "no ranks": plain}).splitlines()
    assert lines[0].split(" | ")[:3] == ["| ", "N", "mAP"] and len(lines) == 5
    numbers = "100.00 | 100.00 | 100.00 | - | 100.00 | - | 100.00"
    assert lines[2] == f"| mine \\| its | 2 | {numbers} | 1 | 1 | 1 | 0.00 | 50.00 (1/2) |"
    halves = numbers.replace("100.00", "50.00")
    assert lines[3] == f"| strict | 2 | {halves} | 2 | 3 | 2 | 50.00 | 50.00 (1/2), strict |"
    assert lines[4] == f"| no ranks | 2 | {numbers} | - | - | - | - | 50.00 (1/2) |"


def test_a_sweep_has_a_line_for_each_number():
    lines = sweep_table(sweep_fg_ovd(DATA, PREDICTIONS)).splitlines()
    assert [line.split(" | ")[0] for line in lines] == ["| N", "| ---", "| 0", "| 1", "| 2"]
