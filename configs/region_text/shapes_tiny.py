# The bundled encoder's words for the boxes of shapes_detector.py, trained without any:
# python tools/test.py configs/region_text/shapes_tiny.py \
#     work_dirs/region_text_shapes_detector/epoch_10.pth
_base_ = "shapes_detector.py"

model = dict(
    _delete_=True,
    type="OpenVocabWrapper",
    detector=_base_.model,
    encoder="fgclip_det/assets/shapes/encoder",
    # Pictures have the size that the encoder was trained at.
    frame=dict(resize="canvas"),
    region_head=dict(
        test_cfg=dict(
            score_thr=0.01, nms=dict(iou_threshold=0.4, class_agnostic=False), max_per_img=100
        )
    ),
    vocabulary=_base_.vocabulary,
    test_cfg=dict(keep_proposals=True),
)
val_evaluator = dict(
    _delete_=True, type="OVCocoMetric", ann_file=_base_.data_root + "annotations/val.json"
)
test_evaluator = val_evaluator
work_dir = "work_dirs/region_text_shapes"
