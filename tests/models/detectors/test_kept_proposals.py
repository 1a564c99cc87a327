import torch

from fgclip_det.evaluation import OVCocoMetric
from tests.models.detectors_for_tests import BASE, NOVEL, prepared


def test_predict_keeps_proposals_only_when_asked(build, make_batch):
    inputs, samples = prepared(build(), make_batch())
    assert all("proposals" not in sample for sample in build().predict(inputs, samples))


def test_kept_proposals_are_the_regions_in_the_frame_of_the_detections(build, make_batch):
    detector = build(**{"test_cfg.keep_proposals": True})
    inputs, samples = prepared(detector, make_batch())
    regions = detector.propose(inputs, samples)
    for rescale, factor in ((True, 2.0), (False, 1.0)):  # of pictures halved on their way in
        for sample, image in zip(detector.predict(inputs, samples, rescale), regions, strict=True):
            torch.testing.assert_close(sample.proposals.bboxes, image.boxes * factor)
            torch.testing.assert_close(sample.proposals.scores, image.objectness)
            found = sample.pred_instances
            torch.testing.assert_close(sample.proposals.bboxes[found.regions], found.bboxes)


def test_kept_proposals_reach_the_metric(build, make_batch):
    detector = build(**{"test_cfg.keep_proposals": True})
    inputs, samples = prepared(detector, make_batch())
    metric = OVCocoMetric(proposal_nums=(1, 20))
    metric.dataset_meta = dict(classes=BASE + NOVEL, base_classes=BASE, novel_classes=NOVEL)
    for sample in detector.predict(inputs, samples):
        values = sample.to_dict()
        # The ground truth is where the third best proposal is.
        order = sample.proposals.scores.sort(descending=True, stable=True).indices
        box = sample.proposals.bboxes[order[2]].tolist()
        values["instances"] = [{"bbox": box, "bbox_label": len(BASE), "ignore_flag": 0}]
        metric.process({}, [values])
    metrics = metric.evaluate(len(samples))
    assert metrics["proposal_recall_novel@20"] == metrics["proposal_recall_all@20"] == 100
    assert metrics["proposal_recall_base@20"] == -1
