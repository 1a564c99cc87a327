"""Many vocabularies of one image: the numbers of a detector run anew with each."""

from __future__ import annotations

import pytest
import torch

from fgclip_det.models.regions.image_vocabularies import CaptionEmbeddings
from tests.models.detectors_for_tests import BASE, NOVEL, assert_same_detections, prepared

VOCABULARIES = [
    [[BASE[0], NOVEL[0], "a purple square"], [NOVEL[1], BASE[3]]],
    [["something else", BASE[1], NOVEL[1], BASE[2]]],
]


def _asked(batch, vocabularies):
    for sample, image in zip(batch["data_samples"], vocabularies, strict=True):
        asked = [{"annotation_id": i, "captions": captions} for i, captions in enumerate(image)]
        sample.set_metainfo({"vocabularies": asked})
    return batch


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_one_pass_equals_a_pass_for_each_vocabulary(build, make_batch, class_agnostic) -> None:
    nms = dict(iou_threshold=0.5, class_agnostic=class_agnostic)
    detector = build(**{"test_cfg.rcnn.nms": nms})
    samples = detector.predict(*prepared(detector, _asked(make_batch(), VOCABULARIES)))
    compared = 0
    for row, sample in enumerate(samples):
        for place, found in enumerate(sample.vocabulary_predictions):
            captions = VOCABULARIES[row][place]
            detector.set_vocabulary(captions)
            alone = detector.predict(*prepared(detector, make_batch()))[row].pred_instances
            assert_same_detections(found, alone)
            assert found.caption_scores.shape == (len(alone), len(captions))
            best, labels = found.caption_scores.max(dim=1)
            own = found.caption_scores.gather(1, found.labels[:, None])[:, 0]
            torch.testing.assert_close(own, found.scores, atol=1e-6, rtol=0)
            if class_agnostic:
                assert labels.equal(found.labels)
                torch.testing.assert_close(best, found.scores, atol=1e-6, rtol=0)
            compared += len(alone)
    assert compared > 10


def test_the_network_runs_once_per_image(build, make_batch, monkeypatch) -> None:
    detector = build()
    calls = []
    propose = detector._propose
    monkeypatch.setattr(
        detector, "_propose", lambda *args: calls.append(1) or propose(*args), raising=True
    )
    detector.predict(*prepared(detector, _asked(make_batch(), VOCABULARIES)))
    assert len(calls) == 1


def test_captions_that_repeat_have_one_score(build, make_batch) -> None:
    # Four annotations of FG-OVD have a negative that equals the positive.
    detector = build()
    twice = [[[BASE[0], NOVEL[0], BASE[0]]], [[BASE[1]]]]
    sample = detector.predict(*prepared(detector, _asked(make_batch(), twice)))[0]
    scores = sample.vocabulary_predictions[0].caption_scores
    assert len(scores)
    assert scores[:, 0].equal(scores[:, 2])


def test_captions_are_encoded_once(build, monkeypatch, tmp_path) -> None:
    encoder = build().encoder
    seen = []
    encode = encoder.encode_text
    monkeypatch.setattr(
        encoder, "encode_text", lambda texts, *a, **k: seen.extend(texts) or encode(texts, *a, **k)
    )
    captions = CaptionEmbeddings(encoder, BASE)
    captions.add(["a", "b", "a"], cache_dir=str(tmp_path))
    rows, is_base = captions.rows(["c", "a", BASE[0], "b", "c"])
    assert sorted(seen) == sorted(["a", "b", "c", BASE[0]])
    assert len(captions) == 4
    assert is_base.tolist() == [False, False, True, False, False]
    direct = encode(["c", "a", BASE[0], "b", "c"], normalize=True)
    torch.testing.assert_close(rows, direct, atol=1e-6, rtol=0)
    seen.clear()
    again = CaptionEmbeddings(encoder, BASE)
    again.add(["a", "b"], cache_dir=str(tmp_path))
    assert not seen
    assert again.rows(["b"])[0].equal(captions.rows(["b"])[0])


def test_captions_follow_a_moved_encoder(build) -> None:
    captions = CaptionEmbeddings(build().encoder.to("cpu"))
    embeddings, is_base = captions.rows(["x"])
    assert embeddings.device == is_base.device == captions.encoder.device
