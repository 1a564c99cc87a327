"""What a training leaves behind: metrics and pictures in the log, and its best checkpoint.

Most of it is MMEngine's and MMDetection's; these tests hold our metric and data samples against it.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.registry import HOOKS, MODELS, VISBACKENDS, VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from mmengine.visualization import Visualizer
from PIL import Image

import fgclip_det.datasets
import fgclip_det.evaluation
import fgclip_det.models  # noqa: F401  (all three register)
from fgclip_det.engine import LogPicturesHook, TensorboardVisBackend
from tests.messages import says

NAMES = ["red cup", "blue cup", "green cup"]
BOX = [4.0, 6.0, 24.0, 20.0]
# Of four images; each shows all three names.
FOUND_IN_EPOCH = {1: 1, 2: 3, 3: 2}


class ScheduledModel(BaseModel):
    """Finds everything in so many images as `FOUND_IN_EPOCH` says, and nothing in the others."""

    def __init__(self):
        super().__init__(data_preprocessor=MODELS.build(dict(type="DetDataPreprocessor")))
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))

    def forward(self, inputs, data_samples, mode):
        if mode == "loss":  # one iteration is an epoch
            self.epoch += 1
            return {"loss": self.weight.square()}
        for sample in data_samples:
            found = 3 if sample.img_id <= FOUND_IN_EPOCH[int(self.epoch)] else 0
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor([BOX] * found).reshape(-1, 4) + torch.arange(found)[:, None],
                scores=torch.tensor([0.9, 0.8, 0.7])[:found],
                labels=torch.arange(found),
            )
        return data_samples


@pytest.fixture(autouse=True)
def own_scope(monkeypatch):
    """A run sets MMEngine's default scope for the rest of the process: here, of the test."""
    monkeypatch.setattr(DefaultScope, "_instance_dict", DefaultScope._instance_dict.copy())


@pytest.fixture
def data(tmp_path):
    """Four pictures with an object of each name."""
    images, annotations = [], []
    for number in range(1, 5):
        Image.new("RGB", (32, 32), (40 * number, 90, 200)).save(tmp_path / f"{number}.png")
        images.append(dict(id=number, file_name=f"{number}.png", width=32, height=32))
        for label in range(3):
            x1, y1, x2, y2 = (value + label for value in BOX)
            box = dict(bbox=[x1, y1, x2 - x1, y2 - y1], area=(x2 - x1) * (y2 - y1), iscrowd=0)
            head = dict(id=len(annotations) + 1, image_id=number, category_id=label + 1)
            annotations.append({**head, **box})
    categories = [dict(id=k + 1, name=name) for k, name in enumerate(NAMES)]
    values = dict(images=images, annotations=annotations, categories=categories)
    (tmp_path / "val.json").write_text(json.dumps(values))
    groups = {"base": NAMES[:2], "novel": NAMES[2:]}
    (tmp_path / "vocabulary.json").write_text(json.dumps({"names": NAMES, "groups": groups}))
    return tmp_path


def loader(data, classes):
    pipeline = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)]
    dataset = dict(
        type="OVCocoDataset",
        vocabulary=str(data / "vocabulary.json"),
        classes=classes,
        data_root=str(data),
        ann_file="val.json",
        data_prefix=dict(img=""),
        test_mode=classes == "all",
        pipeline=[*pipeline, dict(type="PackDetInputs", meta_keys=PACKED)],
    )
    size = 4 if classes == "base" else 1
    sampler = dict(type="DefaultSampler", shuffle=False)
    return dict(batch_size=size, num_workers=0, sampler=sampler, dataset=dataset)


PACKED = ("img_id", "img_path", "ori_shape", "img_shape")


def train(data, backend, **settings):
    """The lines that a config needs for it are `hooks` and `vis_backends`."""
    hooks = dict(
        checkpoint=dict(type="CheckpointHook", interval=1, save_best="AP50_novel", rule="greater"),
        visualization=dict(type="LogPicturesHook", pictures=2),
    )
    runner = Runner(
        model=ScheduledModel(),
        work_dir=str(data / "work"),
        train_dataloader=loader(data, "base"),
        val_dataloader=loader(data, "all"),
        train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=3, val_interval=1),
        val_cfg=dict(type="ValLoop"),
        val_evaluator=dict(type="OVCocoMetric", ann_file=str(data / "val.json")),
        optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1)),
        default_hooks=hooks,
        visualizer=dict(type="DetLocalVisualizer", vis_backends=[dict(type=backend)]),
        default_scope="mmdet",
        experiment_name=data.name,
        cfg=Config(dict(model=dict(type="ScheduledModel"))),
        **settings,
    )
    runner.train()
    return runner


@pytest.fixture
def texts(monkeypatch):
    """What is written into pictures."""
    written = []
    visualizer = VISUALIZERS.get("DetLocalVisualizer")
    draw_texts = visualizer.draw_texts

    def spy(self, text, *args, **kwargs):
        written.append(text)
        return draw_texts(self, text, *args, **kwargs)

    monkeypatch.setattr(visualizer, "draw_texts", spy)
    return written


def expected(epoch):
    """The same for every group: a share of the images at precision 1, of 101 recall points."""
    share = FOUND_IN_EPOCH[epoch] / 4
    return 100 * (np.linspace(0, 1, 101) <= share).mean()


def test_the_best_checkpoint_and_the_log(data, texts):
    train(data, "LocalVisBackend")
    assert [path.name for path in (data / "work").glob("best_*")] == ["best_AP50_novel_epoch_2.pth"]
    (scalars,) = (data / "work").rglob("scalars.json")
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    logged = [line for line in lines if "AP50_novel" in line]
    assert [line["step"] for line in logged] == [1, 2, 3]
    for line in logged:
        for key in ("AP50_base", "AP50_novel", "AP50_all", "AP_base", "AP_novel", "AP_all"):
            assert line[key] == pytest.approx(expected(line["step"]))
    pictures = sorted((data / "work").rglob("vis_image/*.png"))
    expected_names = [f"val_img_{number}_{step}.png" for number in (0, 1) for step in (1, 2, 3)]
    assert [path.name for path in pictures] == expected_names
    # The first and the third of four, the same ones each time: their colours, beside the boxes.
    corners = [np.asarray(Image.open(path))[0, 0, 0] for path in pictures]
    assert corners == [40] * 3 + [120] * 3
    # The ground truth beside what was found.
    assert Image.open(pictures[0]).size == (64, 32)
    assert {text for text in texts if ":" not in text} == set(NAMES)
    assert {text for text in texts if ":" in text} == {
        f"{name}: {score}" for name, score in zip(NAMES, ("90.0", "80.0", "70.0"), strict=True)
    }


def test_tensorboard_holds_metrics_and_pictures(data, texts):
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(data, "TensorboardVisBackend")
    (events,) = (data / "work").rglob("events.out.tfevents.*")
    log = EventAccumulator(str(events), size_guidance={"images": 0})
    log.Reload()
    for key in ("AP50_base", "AP50_novel", "AP50_all", "AP_novel"):
        values = {event.step: event.value for event in log.Scalars(key)}
        assert values == pytest.approx({epoch: expected(epoch) for epoch in (1, 2, 3)})
    for number in (0, 1):
        pictures = log.Images(f"val_img_{number}")
        assert [picture.step for picture in pictures] == [1, 2, 3]
        assert {(picture.width, picture.height) for picture in pictures} == {(64, 32)}
    assert f"{NAMES[2]}: 70.0" in texts


def test_a_test_draws_what_is_asked_for(data):
    evaluator = dict(type="OVCocoMetric", ann_file=str(data / "val.json"))
    test = dict(test_dataloader=loader(data, "all"), test_cfg={}, test_evaluator=evaluator)
    runner = train(data, "LocalVisBackend", **test)
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, LogPicturesHook))
    before = len(list((data / "work").rglob("*.png")))
    runner.test()
    assert len(list((data / "work").rglob("*.png"))) == before
    hook.test_out_dir = "shown"
    runner.test()
    shown = sorted((data / "work").rglob("shown/*.png"))
    assert [path.name for path in shown] == ["1.png", "2.png", "3.png", "4.png"]
    with pytest.raises(ValueError, match=says("pictures is 0", "1 or more", "draw=False")):
        HOOKS.build(dict(type="LogPicturesHook", pictures=0))


@pytest.mark.parametrize("read", [(20, 30), (30, 20)])
def test_pictures_are_drawn_as_they_were_read(tmp_path, read):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[0, 0] = 255, 0, 0
    Image.fromarray(pixels).save(tmp_path / "1.png", exif=exif)
    Visualizer.get_instance("drawn")
    hook, drawn = HOOKS.build(dict(type="LogPicturesHook", show=True)), []
    hook._visualizer = SimpleNamespace(add_datasample=lambda name, image, **_: drawn.append(image))
    sample = DetDataSample(metainfo=dict(img_path=str(tmp_path / "1.png"), ori_shape=read))
    hook.after_test_iter(None, 0, {}, [sample])
    assert drawn[0].shape == (*read, 3)
    # Turned clockwise by the entry.
    assert drawn[0][0, 0 if read == (20, 30) else -1].tolist() == [255, 0, 0]


def test_missing_tensorboard_is_said_when_the_visualizer_is_built(tmp_path, monkeypatch):
    init_default_scope("mmdet")
    assert VISBACKENDS.get("TensorboardVisBackend") is TensorboardVisBackend
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = dict(type="DetLocalVisualizer", vis_backends=[dict(type="TensorboardVisBackend")])
    with pytest.raises(ValueError, match=r"pip install tensorboard$") as error:
        VISUALIZERS.build({**config, "save_dir": str(tmp_path), "name": tmp_path.name})
    assert "\n" not in str(error.value)
