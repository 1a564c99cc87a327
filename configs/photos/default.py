# OWLv2-B/16's objectness, without its words: trained on pseudo boxes of web pictures.
_base_ = "../_base_/photos.py"

model = dict(
    detector=dict(
        type="HubDetector", name="google/owlv2-base-patch16-ensemble", revision=None, num_boxes=300
    )
)
