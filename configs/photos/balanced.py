# D-FINE-L, trained on Objects365, whose own terms are said to be academic: see README.md. Where
# that matters, name "ustc-community/dfine-large-coco", trained on COCO alone.
_base_ = "../_base_/photos.py"

model = dict(
    detector=dict(
        type="HubDetector", name="ustc-community/dfine-large-obj365", revision=None, num_boxes=300
    )
)
