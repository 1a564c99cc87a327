# D-FINE-S, trained on Objects365, whose own terms are said to be academic: see README.md. Where
# that matters, name "ustc-community/dfine-small-coco", trained on COCO alone.
_base_ = "../_base_/photos.py"

model = dict(
    detector=dict(
        type="HubDetector", name="ustc-community/dfine-small-obj365", revision=None, num_boxes=300
    )
)
