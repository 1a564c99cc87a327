# D³ with OWLv2's boxes and FG-CLIP 2's words; nothing is trained.
_base_ = ["../photos/default.py", "../_base_/d3.py"]

custom_imports = dict(
    imports=["fgclip_det.models", "fgclip_det.datasets", "fgclip_det.evaluation"],
    allow_failed_imports=False,
)
# One object may fit several sentences.
model = dict(region_head=dict(one_label=False))
test_dataloader = dict(_delete_=True, **_base_.d3_dataloader)
test_evaluator = _base_.d3_evaluator
test_cfg = dict(type="TestLoop")
