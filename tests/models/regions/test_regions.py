import torch

from fgclip_det.models import Regions


def test_picks_rows_and_keeps_the_picture():
    regions = Regions(
        boxes=torch.arange(12.0).view(3, 4),
        objectness=torch.tensor([0.1, 0.2, 0.3]),
        detector_embeddings=torch.eye(3),
        region_embeddings=-torch.eye(3),
        image_meta={"img_shape": (4, 5)},
    )
    picked = regions[torch.tensor([2, 0])].to("cpu")
    assert len(regions) == 3 and len(picked) == 2
    assert picked.objectness.tolist() == regions.objectness[[2, 0]].tolist()
    assert picked.region_embeddings.equal(-torch.eye(3)[[2, 0]])
    assert picked.image_meta == {"img_shape": (4, 5)}
