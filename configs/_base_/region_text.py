# FG-CLIP's words for another detector's boxes; nothing is trained. A config wraps a detector with
# model = dict(_delete_=True, detector=_base_.model, **_base_.wrapper).
custom_imports = dict(
    imports=[
        "fgclip_det.models",
        "fgclip_det.datasets",
        "fgclip_det.evaluation",
        "fgclip_det.engine",
    ],
    allow_failed_imports=False,
)
wrapper = dict(
    type="OpenVocabWrapper",
    encoder="qihoo360/fg-clip-base",
    # FG-CLIP's own protocol: squares of the side that the encoder was trained at.
    frame=dict(resize="squash"),
    box_score="max",
    region_head=dict(
        fusion="geometric_mean",
        temperature=100.0,
        alpha=0.5,
        beta=0.5,
        one_label=True,
        test_cfg=dict(
            score_thr=0.0,
            nms=dict(iou_threshold=0.5, class_agnostic=False),
            max_per_img=300,
        ),
    ),
    vocabulary=dict(names="coco", templates="photos"),
    text_cache_dir="work_dirs/text_embeddings",
)
