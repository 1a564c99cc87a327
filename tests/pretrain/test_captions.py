import pytest
import torch

from fgclip_det.pretrain.captions import DistinctCaptions, pad_token_ids


def test_equal_captions_have_one_row():
    captions = DistinctCaptions()
    given = ["a ring", [5, 6, 9], torch.tensor([5, 6, 9]), "a star", "a ring", [5, 9]]
    assert captions.rows_of(given) == [0, 1, 1, 2, 0, 3]
    assert len(captions) == 4
    rows = captions.token_ids(lambda texts: torch.tensor([[len(text), 0] for text in texts]))
    assert [list(row) for row in rows] == [[6, 0], [5, 6, 9], [6, 0], [5, 9]]
    assert pad_token_ids(rows, 3, 7).tolist() == [[6, 0, 7], [5, 6, 9], [6, 0, 7], [5, 9, 7]]


def test_no_caption_is_not_tokenized():
    def tokenize(texts):
        raise AssertionError("there is nothing to tokenize")

    assert DistinctCaptions().token_ids(tokenize) == []
    assert pad_token_ids([], 4, 0).shape == (0, 4)


@pytest.mark.parametrize(
    "caption", [[], torch.zeros(2, 3, dtype=torch.int64), torch.zeros(3), [1.5], None, 7]
)
def test_what_is_no_caption_is_named(caption):
    with pytest.raises(ValueError, match=r"a caption is .*token ids"):
        DistinctCaptions().rows_of([caption])
