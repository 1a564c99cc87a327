import json

from fgclip_det.datasets.shapes import generate
from fgclip_det.evaluation.encoder.data_sets import read_coco_captions


def test_retrieval_asks_for_the_captions_of_each_picture(tmp_path):
    generate(tmp_path, {"pretrain_val": 5})
    lines = (tmp_path / "annotations" / "pretrain_val.jsonl").read_text().splitlines()
    expected = [json.loads(line) for line in lines]
    record = read_coco_captions(tmp_path / "coco_captions", tmp_path / "pretrain_val")
    assert list(record.captions) == [line["short_caption"] for line in expected]
    found = [record.pictures[owner] for owner in record.owners]
    assert found == [tmp_path / "pretrain_val" / line["file_name"] for line in expected]
    assert all(path.is_file() for path in found) and record.published_captions is None
