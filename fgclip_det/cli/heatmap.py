"""``fgclip-det heatmap``: where in pictures an encoder sees what a text says."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from fgclip_det.apis import heatmap as maps_of
from fgclip_det.apis.argument_checks import check_path
from fgclip_det.apis.detector_loading import BUNDLED, resolve_device
from fgclip_det.apis.drawing.visualization import shortened
from fgclip_det.apis.inputs.picture_lists import named_images
from fgclip_det.apis.region_texts import encode_texts
from fgclip_det.cli.arguments.common import check_asked, read_vocabulary
from fgclip_det.cli.outputs import FOLDERS, check_folder, write_drawing, write_result
from fgclip_det.cli.report import Report
from fgclip_det.encoders import load_encoder
from fgclip_det.io import path_text, read_image


def run(arguments: argparse.Namespace) -> int:
    """Draw where the named pictures are like a text; returns the exit code.

    Raises:
        ValueError: An argument is wrong; nothing was written then.
    """
    check_asked(arguments, arguments.encoder)
    check_path(arguments.out_dir, "--out-dir")
    out_dir = Path(arguments.out_dir)
    folder = out_dir / "heatmaps"
    made = [out_dir / folder for folder in FOLDERS]
    names = named_images(arguments.images or [BUNDLED / "images"], without=made)
    vocabulary = read_vocabulary(arguments)
    maps_of.check_count(len(vocabulary))
    check_folder(folder, arguments.out_dir)
    if arguments.encoder is not None:
        check_path(arguments.encoder, "--encoder")
    device = resolve_device(arguments.device)
    is_bundled = arguments.encoder is None
    encoder = load_encoder(BUNDLED / "encoder" if is_bundled else arguments.encoder).to(device)
    size = {key: getattr(arguments, key) for key in ("image_size", "max_patches", "box_cells")}
    maps_of.check_settings(encoder, **size)
    words = BUNDLED / "vocabulary.json" if is_bundled else None
    texts = encode_texts(encoder, vocabulary, words=words)
    report = Report()
    for path, name in tqdm(names.items(), desc="pictures", disable=len(names) < 2):
        with report.collected(path):
            image = read_image(path)
            maps = maps_of.similarity_maps(encoder, image, texts, **size)
            drawn = maps_of.draw_heatmap(image, maps, texts.names, arguments.scale)
            _write(folder, name, path, image, texts.names, maps, drawn)
            highest = maps.flatten(1).amax(dim=1).tolist()
            places = maps_of.peaks(maps, image.shape[:2])
            told = zip(highest, map(shortened, texts.names), places, strict=True)
            report.add(name + Path(path).suffix, told)
    return report.tell(
        f"{len(texts)} text(s) in {report.done} picture(s); written to {arguments.out_dir}"
    )


def _write(
    folder: Path,
    name: str,
    picture: str,
    image: np.ndarray,
    texts: list[str],
    maps: Tensor,
    drawn: Image.Image,
) -> None:
    """Write the numbers and, under the same name, the drawing."""
    place = path_text(os.path.abspath(picture))
    packed = maps_of.pack_maps(maps, texts, image.shape[:2], place)

    def drawing_of(name: str) -> Path:
        return folder / f"{name}.png"

    owner_of = maps_of.packed_image
    name = write_result(folder, name, ".npz", packed, picture, owner_of, drawing_of)
    write_drawing(drawing_of(name), drawn, folder / f"{name}.npz")
