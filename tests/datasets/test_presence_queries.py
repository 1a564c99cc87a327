import copy
import json

import pytest

from fgclip_det.datasets.presence_queries import read_queries

GOOD = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 5, "file_name": "b.png"}],
    "queries": [
        {"image_id": 5, "text": "a dog", "kind": "absent"},
        {"image_id": 5, "text": "a cat", "kind": "present", "bboxes": [[1, 2, 3, 4], [0, 0, 1, 1]]},
        {
            "image_id": 5,
            "text": "a red cat",
            "kind": "near_miss",
            "bboxes": [],
            "differs": " co\n lor",
        },
    ],
}


@pytest.fixture
def read(tmp_path):
    def read(content):
        path = tmp_path / "queries.json"
        path.write_text(json.dumps(content))
        return read_queries(path, tmp_path / "images")

    return read


def test_pictures_that_are_asked_with_their_queries(read, tmp_path):
    (picture,) = read(GOOD)
    assert picture.path == tmp_path / "images" / "b.png"
    assert [query.kind for query in picture.queries] == ["absent", "present", "near_miss"]
    assert [len(query.boxes) for query in picture.queries] == [0, 2, 0]
    assert picture.queries[1].boxes[0].tolist() == [1, 2, 4, 6]
    assert [query.differs for query in picture.queries] == [None, None, "co lor"]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("images",), None, "no lists of objects 'images' and 'queries'"),
        (("queries", 0), "x", "no lists of objects"),
        (("images", 1, "id"), 1, "without an id of their own"),
        (("images", 1, "file_name"), 3, "image 5 has no 'file_name'"),
        (("queries",), [], "asks nothing"),
        (("queries", 1, "image_id"), 7, "query 2 is of image 7, which is none"),
        (("queries", 1, "image_id"), [5], "which is none"),
        (("queries", 1, "text"), "  ", "query 2 has the text '  '"),
        (("queries", 1, "kind"), "there", "of the kind 'there': choose from present, near_miss"),
        (("queries", 1, "bboxes"), [], "is present and has 0 bboxes"),
        (("queries", 0, "bboxes"), [[0, 0, 1, 1]], "is absent and has 1 bboxes"),
        (("queries", 1, "bboxes"), [[0, 0, 0, 1]], "give \\[x, y, width, height\\]"),
        (("queries", 1, "bboxes"), [[0, 0, 1]], "give \\[x, y, width, height\\]"),
        (("queries", 1, "bboxes"), [1, 2, 3, 4], "give \\[x, y, width, height\\]"),
        (("queries", 1, "bboxes"), [[1, 2, 3, 4, 5, 6, 7, 8]], "give \\[x, y, width, height\\]"),
        (("queries", 1, "bboxes"), [["1", 2, 3, 4]], "give \\[x, y, width, height\\]"),
        (("queries", 1, "bboxes"), [[True, 2, 3, 4]], "give \\[x, y, width, height\\]"),
        (("queries", 1, "bboxes"), [[1e30, 2, 3, 4]], "give \\[x, y, width, height\\]"),
        (("queries", 1, "bboxes"), "x", "give \\[x, y, width, height\\]"),
    ],
)
def test_bad_entries_are_named(read, place, value, message):
    content = copy.deepcopy(GOOD)
    owner = content
    for key in place[:-1]:
        owner = owner[key]
    owner[place[-1]] = value
    with pytest.raises(ValueError, match=message):
        read(content)


def test_a_list_or_no_file_is_named(read, tmp_path):
    with pytest.raises(ValueError, match=r"docs/presence\.md"):
        read([])
    with pytest.raises(ValueError, match=r"none\.json"):
        read_queries(tmp_path / "none.json", tmp_path)
