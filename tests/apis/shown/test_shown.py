"""Things that are shown to the bundled detector instead of said."""

import json
import warnings

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from PIL import Image
from torchvision.ops import box_iou

from fgclip_det.apis import OpenVocabInferencer
from fgclip_det.apis.detector_loading import BUNDLED
from fgclip_det.apis.inputs.prepared import prepared
from fgclip_det.apis.shown.looking import with_ground
from fgclip_det.io import read_image
from fgclip_det.vocabulary import Exemplar, TextEmbeddings, Vocabulary

PICTURES = [str(BUNDLED / "images" / f"{number:06d}.png") for number in (6, 7, 9)]
# What the bundled pictures show: xyxy in pixels.
STAR = (17, 24, 54, 64)
CROSS = (64, 19, 110, 64)


@pytest.fixture(scope="module")
def detector():
    return OpenVocabInferencer(device="cpu")


@pytest.fixture(autouse=True)
def _restored(detector):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* is shown")
        yield
    detector.set_negatives("auto")


def star():
    return Exemplar(PICTURES[0], STAR)


def test_what_is_shown_is_found_in_its_own_picture(detector):
    (answer,) = detector(PICTURES[0], star())
    assert answer.names[0] == "shown"
    assert box_iou(answer.boxes[:1], torch.tensor([STAR]).float()) > 0.7
    assert answer.confidences is None and answer.conf_thr is None


@pytest.mark.parametrize("box", [STAR, CROSS])
def test_a_crop_is_as_good_as_a_box(detector, box):
    x1, y1, x2, y2 = box
    crop = read_image(PICTURES[0])[y1:y2, x1:x2]
    (answer,) = detector(PICTURES[0], Exemplar(crop))
    assert box_iou(answer.boxes[:1], torch.tensor([box]).float()) > 0.7


def test_a_box_of_the_whole_picture_is_a_crop(detector):
    height, width = read_image(PICTURES[0]).shape[:2]
    whole = Exemplar(PICTURES[0], (0, 0, width, height))
    rows = [detector.encode(one).embeddings for one in (whole, Exemplar(PICTURES[0]))]
    assert torch.equal(*rows)


def test_rows_of_saved_regions_are_exemplars(detector, tmp_path):
    (image,) = detector.propose(PICTURES[0])
    boxes = image.regions.boxes / torch.tensor([*image.regions.image_meta["scale_factor"]] * 2)
    row = int(box_iou(boxes, torch.tensor([STAR]).float()).argmax())
    image.save(tmp_path / "a.safetensors")
    given = [Exemplar(regions=image, row=row), f"{tmp_path / 'a.safetensors'}:{row}"]
    of_both = [detector.encode({"it": {"like": one}}).embeddings for one in given]
    assert torch.allclose(*of_both, atol=1e-6)
    top = image.classify({"it": {"like": given[1]}})
    assert box_iou(top.boxes[:1], torch.tensor([STAR]).float()) > 0.7


def test_words_and_pictures_of_one_name_are_weighed(detector):
    said, shown, both = (
        detector.encode(form).embeddings[0]
        for form in (
            {"it": ["a blue dotted star"]},
            {"it": {"like": star()}},
            {"it": {"prompts": ["a blue dotted star"], "like": star()}},
        )
    )
    weight = detector.looking.settings.text_weight
    wanted = torch.nn.functional.normalize(weight * said + (1 - weight) * shown, dim=0)
    assert torch.allclose(both, wanted, atol=1e-6)
    assert float(said @ shown) > 0.6


def test_a_negative_hides_what_it_shows(detector):
    for negatives in ("auto", None):
        detector.set_negatives(negatives)
        form = {"it": {"like": star(), "not_like": Exemplar(PICTURES[0], CROSS)}}
        (answer,) = detector(PICTURES[0], form)
        ious = box_iou(answer.boxes, torch.tensor([STAR, CROSS]).float())
        assert ious[:, 0].max() > 0.7 and (ious[:, 1] < 0.7).all()


def test_what_is_nearly_meant_is_told_apart_by_showing_it(detector):
    detector.set_negatives(None)
    (taken,) = detector(PICTURES[0], "a cross")
    assert box_iou(taken.boxes, torch.tensor([CROSS]).float()).max() > 0.7
    for more in ({"not_like": Exemplar(PICTURES[0], CROSS)}, {"not": "a purple dotted cross"}):
        (answer,) = detector(PICTURES[0], {"it": {"prompts": "a cross", **more}}, score_thr=0.0)
        assert not (box_iou(answer.boxes, torch.tensor([CROSS]).float()) > 0.7).any()


def test_the_same_region_in_another_form_is_no_negative(detector, tmp_path):
    (image,) = detector.propose(PICTURES[0])
    image.save(tmp_path / "a.safetensors")
    pixels = np.asarray(Image.open(PICTURES[0]).convert("RGB"))
    for like, other in (
        (Exemplar(PICTURES[0], (16, 24, 54, 64)), Exemplar(pixels, (16, 24, 54, 64))),
        (Exemplar(regions=image, row=0), f"{tmp_path / 'a.safetensors'}:0"),
    ):
        with pytest.raises(ValueError, match=r"looks the same as .* cannot mean the one and not"):
            detector.encode({"it": {"like": [Exemplar(pixels), like], "not_like": other}})


def test_a_negative_is_of_its_own_name_alone(detector):
    detector.set_negatives(None)
    form = {"star": {"prompts": ["a star"], "not_like": star()}, "blue": ["a blue dotted star"]}
    (answer,) = detector(PICTURES[0], form)
    assert "blue" in answer.names and "star" not in answer.names


def test_names_that_are_said_alone_keep_their_confidences(detector):
    (answer,) = detector(PICTURES[0], "a blue dotted star")
    assert answer.confidences is not None
    with pytest.warns(UserWarning, match="'shown' is shown.*no confidences"):
        detector.encode(star())
    with pytest.raises(ValueError, match=r"conf_thr is 0\.5.*give score_thr"):
        detector(PICTURES[0], star(), conf_thr=0.5)


def test_saved_embeddings_need_no_picture(detector, tmp_path):
    picture = tmp_path / "a.png"
    Image.fromarray(read_image(PICTURES[0])).save(picture)
    form = {
        "it": {"like": [f"{picture}:17,24,54,64"], "not": ["a ring"], "not_like": [CROSS_PIXELS()]},
        "a ring": ["a ring"],
    }
    made = detector.encode(form)
    made.save(tmp_path / "it.safetensors")
    picture.unlink()
    loaded = TextEmbeddings.load(tmp_path / "it.safetensors")
    assert loaded.hash == made.hash and loaded.vocabulary == made.vocabulary
    assert torch.equal(loaded.negatives, made.negatives)
    asked = (made, tmp_path / "it.safetensors")
    answers = [detector(PICTURES, one, score_thr=0.0) for one in asked]
    for one, other in zip(*answers, strict=True):
        assert one.names == other.names and torch.equal(one.scores, other.scores)
    assert loaded.subset(["a ring"]).negatives is None
    assert len(loaded.subset(["it"]).negatives) == 2


def CROSS_PIXELS():
    x1, y1, x2, y2 = CROSS
    return read_image(PICTURES[0])[y1:y2, x1:x2]


def test_altered_negatives_are_refused(detector, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    made = detector.encode({"it": {"like": star(), "not": ["a ring"]}})
    path = tmp_path / "it.safetensors"
    made.save(path)
    with safe_open(path, "pt") as file:
        labels, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for negatives in (tensors["negatives"].flip(1), tensors["negatives"][:0], None):
        others = {"embeddings": tensors["embeddings"]}
        others |= {} if negatives is None else {"negatives": negatives.contiguous()}
        save_file(others, path, labels)
        with pytest.raises(ValueError, match="altered"):
            TextEmbeddings.load(path)


@pytest.mark.parametrize(
    ("exemplar", "words"),
    [
        (Exemplar(PICTURES[0], (100, 100, 140, 120)), "lies outside.*128 x 128"),
        (Exemplar(PICTURES[0], (-9, 0, 40, 40)), "lies outside"),
        (Exemplar(np.zeros((1, 1, 3), np.uint8)), "is 1 x 1 pixels"),
        (Exemplar(np.zeros((2, 90, 3), np.uint8)), "is 90 x 2 pixels"),
        (Exemplar("nowhere.png"), "nowhere"),
        (Exemplar(digest="0" * 16), "show it again"),
        (Exemplar(regions="a", row=1), "a"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(detector, exemplar, words):
    with pytest.raises(ValueError, match=words):
        detector.encode(exemplar)


def test_regions_of_another_encoder_are_refused(detector):
    (image,) = detector.propose(PICTURES[0])
    image.regions.encoder_fingerprint = "0123456789abcdef"
    with pytest.raises(ValueError, match="regions of encoder 0123456789abcdef"):
        detector.encode(Exemplar(regions=image, row=0))
    image.regions.encoder_fingerprint = detector.model.encoder.fingerprint
    with pytest.raises(ValueError, match=f"row 999 of {len(image)}"):
        detector.encode(Exemplar(regions=image, row=999))


def test_a_thousand_exemplars_are_seen_once(detector, monkeypatch):
    image = read_image(PICTURES[0])
    boxes = [(x, y, x + 30 + s, y + 30) for x in range(10) for y in range(10) for s in range(10)]
    like = [Exemplar(image, box) for box in boxes]
    looked = []
    at = detector.model.regions_at
    monkeypatch.setattr(detector.model, "regions_at", lambda *a: looked.append(1) or at(*a))
    made = detector.encode({"it": {"like": like}})
    again = detector.encode({"it": {"like": [*like, Exemplar(image, STAR)]}})
    assert len(looked) == 2  # the picture once for each question
    assert made.embeddings.shape == again.embeddings.shape
    assert float(made.embeddings.norm()) == pytest.approx(1)


def test_the_order_of_exemplars_does_not_matter(detector):
    like = [star(), Exemplar(PICTURES[0], CROSS), Exemplar(PICTURES[1])]
    rows = [detector.encode({"it": {"like": one}}).embeddings for one in (like, like[::-1])]
    assert torch.allclose(*rows, atol=1e-6)


def test_settings_of_the_config_are_read(detector, monkeypatch):
    from fgclip_det.apis.shown.looking import Looking

    def made(**settings):
        monkeypatch.setitem(detector.model.test_cfg, "exemplars", settings)
        return Looking.of_detector(detector.model, detector.pipeline, detector.competition)

    rows = [
        made(**settings).encode(Vocabulary.parse(star())).embeddings
        for settings in ({}, {"ridge": 0}, {"ridge": 30.0})
    ]
    assert not torch.allclose(rows[0], rows[1], atol=1e-2)
    assert not torch.allclose(rows[0], rows[2], atol=1e-3)
    for wrong, words in (
        ({"rigde": 3}, "rigde"),
        ({"ridge": -1}, "ridge is -1"),
        ({"text_weight": 2}, "text_weight"),
        ({"surround": "3"}, "surround"),
        ({"centring": True}, "centring"),
    ):
        with pytest.raises(ValueError, match=words):
            made(**wrong)
    with pytest.raises(ValueError, match="no bank of regions"):
        made(centring=1.0).encode(Vocabulary.parse(star()))


def test_a_detector_predicts_what_is_shown_without_confidences(detector, monkeypatch):
    monkeypatch.setattr(detector.model, "_texts", detector.encode(star()))
    data = prepared(read_image(PICTURES[0]), None, detector.pipeline)
    batch = detector.model.data_preprocessor(pseudo_collate([data]), False)
    (sample,) = detector.model.predict(batch["inputs"], batch["data_samples"])
    found = sample.pred_instances
    assert len(found) and "confidences" not in found
    best = found.bboxes[found.scores.argmax()]
    assert box_iou(best[None], torch.tensor([STAR]).float()) > 0.7


def test_a_crop_lies_in_ground_of_its_edge():
    crop = np.full((10, 20, 3), 9, np.uint8)
    crop[3:7, 5:15] = 200
    whole, box = with_ground(crop, 3.0)
    assert whole.shape == (60, 60, 3)
    x1, y1, x2, y2 = map(int, box[0])
    assert (x2 - x1, y2 - y1) == (20, 10)
    assert (whole[y1:y2, x1:x2] == crop).all()
    assert (np.delete(whole.reshape(-1, 3), 0, 0) == 9).mean() > 0.9
    assert with_ground(np.zeros((4000, 100, 3), np.uint8), 3.0)[0].shape == (1536, 1536, 3)


def test_a_vocabulary_of_json_is_asked(detector, tmp_path):
    Image.fromarray(read_image(PICTURES[0])).save(tmp_path / "a.png")
    file = tmp_path / "names.json"
    file.write_text(json.dumps({"it": {"like": ["a.png:17,24,54,64"]}}))
    (answer,) = detector(PICTURES[0], file)
    assert answer.names[:1] == ["it"]
