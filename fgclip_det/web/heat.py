"""A heat map as a layer over its picture."""

from __future__ import annotations

import base64
import io

import matplotlib
import numpy as np
from PIL import Image

# Even steps of it are even steps for colour-blind eyes too.
_COLORS = "cividis"
_COVER = (0.35, 0.8)
# Cells are enlarged here, so that all browsers smooth them alike.
_SIDE = 256


def as_layer(cosines: np.ndarray) -> str:
    """A PNG of (h, w) cosines, as a data URL: dark and thin the lowest, bright the highest."""
    low, high = float(cosines.min()), float(cosines.max())
    values = (cosines - low) / max(high - low, 1e-6)
    image = Image.fromarray(values.astype(np.float32))
    times = max(1, _SIDE // max(values.shape))
    image = image.resize((image.width * times, image.height * times), Image.Resampling.BILINEAR)
    full = np.asarray(image).clip(0, 1)
    colors = matplotlib.colormaps[_COLORS](full)
    colors[..., 3] = _COVER[0] + (_COVER[1] - _COVER[0]) * full
    stream = io.BytesIO()
    Image.fromarray((colors * 255).round().astype(np.uint8)).save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def caption(cosines: np.ndarray, name: str) -> str:
    """What a layer shows, in a line."""
    return f"{name}: cosine {cosines.min():.2f} (dark) to {cosines.max():.2f} (bright)"
