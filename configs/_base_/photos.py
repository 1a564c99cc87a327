# Boxes and words for photographs, both from the Hugging Face hub; nothing is trained. A config adds
# the detector: model = dict(detector=dict(type="HubDetector", name=..., revision=...)).
custom_imports = dict(
    imports=["fgclip_det.models", "fgclip_det.datasets"], allow_failed_imports=False
)
default_scope = "mmdet"
model = dict(
    type="OpenVocabWrapper",
    # Or dict(name=..., revision=...). No revision: the commit that `fgclip-det models` has kept.
    encoder="qihoo360/fg-clip2-base",
    # FG-CLIP 2's own protocol: up to 1024 patches of the picture as it was stored.
    frame=dict(resize="patches", max_patches=None),
    box_score="max",
    region_head=dict(
        fusion="geometric_mean",
        temperature=100.0,
        one_label=True,
        test_cfg=dict(
            score_thr=0.0,
            nms=dict(iou_threshold=0.5, class_agnostic=False),
            max_per_img=300,
        ),
    ),
    vocabulary="coco",
    # A share among names means little while only one is asked for: these compete unseen, but for
    # what says the same as a name that is asked for.
    test_cfg=dict(negatives=dict(vocabularies=["coco", "lvis"], max_cosine=0.9)),
)
# Each network reads the original pixels once: no resize before.
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile", backend_args=None),
            dict(
                type="PackDetInputs",
                meta_keys=("img_id", "img_path", "ori_shape", "img_shape"),
            ),
        ]
    ),
)
