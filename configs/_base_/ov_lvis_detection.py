# OV-LVIS (tools/prepare_ov_lvis.py makes the files): frequent and common classes to train, all 1203
# to test; rare ones are novel. Boxes and masks. LVIS draws its pictures from both of COCO's splits.
dataset_type = "OVCocoDataset"
data_root = "data/"
vocabulary = data_root + "lvis/annotations/ov_lvis_vocabulary.json"
image_size = (1024, 1024)
batch_size = 8
num_workers = 4

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True, poly2mask=False),
    dict(type="RandomResize", scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(
        type="RandomCrop",
        crop_size=image_size,
        crop_type="absolute",
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=image_size, keep_ratio=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type=dataset_type,
        vocabulary=vocabulary,
        classes="base",
        data_root=data_root,
        ann_file="lvis/annotations/ov_lvis_train.json",
        data_prefix=dict(img="coco/"),
        check_images=True,
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        vocabulary=vocabulary,
        classes="all",
        data_root=data_root,
        ann_file="lvis/annotations/ov_lvis_val.json",
        data_prefix=dict(img="coco/"),
        check_images=True,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type="OVLVISMetric",
    ann_file=data_root + "lvis/annotations/ov_lvis_val.json",
    metric=["bbox", "segm"],
)
test_evaluator = val_evaluator
