# FG-CLIP-B on OV-COCO, 80-way protocol: all images, all 80 names, base and novel evaluated apart.
_base_ = "ovdet_fgclip_b_640_3e_ov_coco.py"

annotations = _base_.data_root + "annotations/ov_coco_80_"
vocabulary = annotations + "vocabulary.json"
train_dataloader = dict(
    dataset=dict(
        vocabulary=vocabulary,
        ann_file="annotations/ov_coco_80_train.json",
        filter_cfg=dict(filter_empty_gt=False),
    )
)
# Both files list the same images; boxes come from the evaluator's own files.
val_dataloader = dict(
    dataset=dict(vocabulary=vocabulary, ann_file="annotations/ov_coco_80_val_base.json")
)
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type="OVCocoMetric",
    protocol="80",
    ann_file=dict(base=annotations + "val_base.json", novel=annotations + "val_novel.json"),
)
test_evaluator = dict(val_evaluator)

model = dict(vocabulary=dict(names=vocabulary))
