# The harder protocol: every picture is asked all sentences.
_base_ = "photos.py"

test_dataloader = dict(dataset=dict(protocol="inter"))
