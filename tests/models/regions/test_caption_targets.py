"""Captions as training targets: who competes with whom, and that a step favours the right ones."""

import math

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from fgclip_det.models.regions.caption_targets import caption_targets

# Two boxes of one vocabulary and one of another; a picture with names; one with nothing.
FIRST = [("a red cup", "a blue cup"), ("a dog", "a cat", "a cow")]


def _sample(labels, vocabularies=None):
    boxes = torch.tensor([[4.0, 4.0, 40.0, 40.0]]).repeat(len(labels), 1)
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64)))
    if vocabularies is not None:
        asked = [
            dict(annotation_id=i, captions=list(texts)) for i, texts in enumerate(vocabularies)
        ]
        sample.set_metainfo(dict(vocabularies=asked))
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor(labels, dtype=torch.long))
    return sample


def _encode(captions):
    return torch.tensor([[float(len(text)), float(ord(text[2]))] for text in captions])


def _names():
    return torch.tensor([[1.0, 0.0], [0.0, 1.0]])


def test_a_box_competes_with_its_own_negatives():
    batch = [_sample([0, 1, 0], FIRST), _sample([1]), _sample([], [])]
    targets = caption_targets(batch, _encode, _names)
    names, captions = _names(), [text for texts in FIRST for text in texts]
    assert targets.text_embeddings.tolist() == [*names.tolist(), *_encode(captions).tolist()]
    assert [one.gt_instances.labels.tolist() for one in targets.samples] == [[2, 4, 2], [1], []]
    expected = {
        0: {0, 1},
        1: {0, 1},
        2: {2, 3},
        4: {4, 5, 6},
        # The background of each picture.
        7: {2, 3, 4, 5, 6},
        8: {0, 1},
        9: set(),
    }
    assert targets.competitors.shape == (10, 7)
    for row, columns in expected.items():
        assert set(targets.competitors[row].nonzero().flatten().tolist()) == columns
    # What it was given is as it was.
    assert batch[0].gt_instances.labels.tolist() == [0, 1, 0]


def test_names_are_not_encoded_without_need():
    def fail():
        raise AssertionError("not needed")

    targets = caption_targets([_sample([1], FIRST)], _encode, fail)
    assert targets.samples[0].gt_instances.labels.tolist() == [2]
    assert targets.competitors.shape == (6, 5)


@pytest.mark.parametrize("label", [2, 7])
def test_labels_beyond_the_vocabularies_are_refused(label):
    with pytest.raises(ValueError, match=f"label {label} of an image with 2 vocabularies"):
        caption_targets([_sample([label], FIRST)], _encode, _names)


def test_only_competitors_count_in_the_loss(build):
    head = build().roi_head.bbox_head
    texts = torch.nn.functional.normalize(
        torch.randn(3, head.classifier.background_embedding.numel())
    )
    embeddings = texts[[1, 2]].clone()
    competitors = torch.tensor([[True, True, False], [True, True, True]])
    labels = torch.tensor([0, 3])
    found = head.loss(embeddings, torch.zeros(2, 4), texts, labels, torch.zeros(2, 4), competitors)
    background = torch.nn.functional.normalize(head.classifier.background_embedding, dim=0)
    cosines = embeddings @ torch.cat([texts, background[None]]).T
    logits = (cosines * head.classifier.temperature).tolist()
    first = math.log(sum(math.exp(logits[0][i] - logits[0][0]) for i in (0, 1, 3)))
    second = math.log(sum(math.exp(logits[1][i] - logits[1][3]) for i in range(4)))
    weighted = first + head.background_weight * second
    assert float(found["loss_cls"]) == pytest.approx(head.loss_weight * weighted / 2, rel=1e-4)


def test_steps_teach_a_detector_its_captions(build, make_batch):
    """A vocabulary of two captions for each box; what is learned is which of them fits."""
    torch.manual_seed(0)
    detector = build().train()
    batch = make_batch()
    words = ["red cup", "blue cup"]
    for index, sample in enumerate(batch["data_samples"]):
        truth = sample.gt_instances
        right, wrong = words[index % 2], words[1 - index % 2]
        asked = [dict(annotation_id=0, captions=[right, wrong])]
        sample.set_metainfo(dict(vocabularies=asked))
        truth.labels = torch.zeros_like(truth.labels)
    optimizer = torch.optim.AdamW([p for p in detector.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(8):
        data = detector.data_preprocessor(batch, True)
        total, values = detector.parse_losses(detector(**data, mode="loss"))
        losses.append(float(values["loss_cls"]))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert all(math.isfinite(value) for value in losses)
    assert losses[-1] < 0.8 * losses[0]
