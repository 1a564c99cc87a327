# FG-CLIP-B on FG-OVD's hard subset, with the published number of negatives. The detector is the one
# that the OV-COCO config trains. README.md beside this file has the commands.
_base_ = "../ov_coco/ovdet_fgclip_b_640_3e_ov_coco.py"

annotations = "data/fg_ovd/1_attributes.json"
n_negatives = 5

test_pipeline = _base_.test_pipeline
test_pipeline[-1].meta_keys = (*test_pipeline[-1].meta_keys, "vocabularies")
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="FGOVDDataset",
        ann_file=annotations,
        # `file_name` in the annotations carries COCO's split.
        data_prefix=dict(img=_base_.data_root),
        n_negatives=n_negatives,
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(
    _delete_=True, type="FGOVDMetric", ann_file=annotations, n_negatives=n_negatives
)

# Boxes suppress each other whatever their caption, and a hundred count, as in the metric.
model = dict(
    test_cfg=dict(
        rcnn=dict(score_thr=1e-4, nms=dict(iou_threshold=0.5, class_agnostic=True), max_per_img=100)
    )
)
