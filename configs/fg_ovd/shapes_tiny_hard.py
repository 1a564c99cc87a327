# The detector of Shapes on its hard subset: wrong captions differ in one attribute.
_base_ = "../shapes/ovdet_tiny.py"

annotations = _base_.data_root + "fg_ovd/1_attributes.json"
n_negatives = 5

test_pipeline = _base_.test_pipeline
test_pipeline[-1].meta_keys = (*test_pipeline[-1].meta_keys, "vocabularies")
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="FGOVDDataset",
        ann_file=annotations,
        data_prefix=dict(img=_base_.data_root),
        n_negatives=n_negatives,
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(
    _delete_=True, type="FGOVDMetric", ann_file=annotations, n_negatives=n_negatives
)

model = dict(
    test_cfg=dict(
        rcnn=dict(score_thr=1e-4, nms=dict(iou_threshold=0.5, class_agnostic=True), max_per_img=100)
    )
)
work_dir = "work_dirs/fg_ovd_shapes"
