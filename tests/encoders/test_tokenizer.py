import pytest

from fgclip_det.encoders import train_tokenizer

CAPTIONS = ["a red striped circle", "a blue plain star and a red dotted ring"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CAPTIONS, 600)


def test_frequent_words_become_one_token(tokenizer):
    ids = tokenizer(["red striped circle"])["input_ids"][0]
    assert len(ids) == 5
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)


def test_end_token_is_the_last_and_pads(tokenizer):
    assert tokenizer.eos_token_id == len(tokenizer) - 1
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_case_and_spaces_do_not_matter(tokenizer):
    one, other = tokenizer(["A  RED circle", "a red circle"])["input_ids"]
    assert one == other


def test_any_text_survives(tokenizer):
    text = "größe 4 красный 红"
    ids = tokenizer([text])["input_ids"][0]
    assert tokenizer.decode(ids, skip_special_tokens=True).split() == text.split()


def test_training_does_not_depend_on_order():
    forward = train_tokenizer(CAPTIONS, 560).get_vocab()
    assert forward == train_tokenizer(CAPTIONS[::-1], 560).get_vocab()


def test_saved_tokenizer_reads_back_equal(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    assert again(CAPTIONS[:2])["input_ids"] == tokenizer(CAPTIONS[:2])["input_ids"]


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match="vocab_size 100 is too small"):
        train_tokenizer(CAPTIONS, 100)
