"""Which boxes of a video's frames are one object."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torchvision.ops import box_iou

from fgclip_det.apis.video.packages import needed

UNKNOWN = -1
# An object that is hidden for longer is another one when it comes back.
_HIDDEN_SECONDS, _HIDDEN_FRAMES = 1.0, 5
# Boxes that share more than this are two names of one thing.
_SAME = 0.9


class ObjectTracker:
    """ByteTrack over the boxes of frames, whatever their names.

    A box that has the place of a better one, under another name, is the same object. An object
    gets its id when it is seen for the second time, as a box that comes but once may be a mistake.
    The same boxes and times give the same ids.

    Args:
        rate: Frames in a second that it is going to be told of.

    Raises:
        ImportError: The extra for videos is not installed.
    """

    def __init__(self, rate: float) -> None:
        self._detections = needed("supervision").Detections
        hidden = max(_HIDDEN_SECONDS, _HIDDEN_FRAMES / rate)
        self._tracker = needed("trackers").ByteTrackTracker(
            # In frames of a video of 30 in a second, whatever its rate.
            lost_track_buffer=math.ceil(30 * hidden),
            frame_rate=rate,
            # What is reported is an object: the threshold of the scores was the user's.
            track_activation_threshold=0.0,
            high_conf_det_threshold=0.0,
            minimum_consecutive_frames=2,
        )

    def ids(self, boxes: np.ndarray, scores: np.ndarray, time_s: float) -> np.ndarray:
        """Ids of the boxes of the next frame.

        Args:
            boxes: (M, 4) float, xyxy, in pixels, best first.
            scores: (M,) float.
            time_s: When the frame is shown, in seconds, later than the frame before.

        Returns:
            (M,) int64, from 1; -1 of an object that is seen for the first time.
        """
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        owners = _owners(boxes)
        rows = np.flatnonzero(owners == np.arange(len(boxes)))
        given = self._detections(
            xyxy=boxes[rows],
            confidence=np.asarray(scores, np.float32).reshape(-1)[rows],
            data={"row": rows},
        )
        with warnings.catch_warnings():
            # NumPy's of a box without an area.
            warnings.simplefilter("ignore", RuntimeWarning)
            found = self._tracker.update(given, timestamp=time_s)
        ids = np.full(len(boxes), UNKNOWN, np.int64)
        if len(found):
            known = np.asarray(found.tracker_id, np.int64)
            ids[found.data["row"]] = np.where(known < 0, UNKNOWN, known + 1)
        return ids[owners] if len(boxes) else ids


def _owners(boxes: np.ndarray) -> np.ndarray:
    """(M,) row of the first box that has the same place; its own where there is none."""
    owners = np.arange(len(boxes))
    given = torch.from_numpy(boxes)
    overlaps = box_iou(given, given).numpy()
    for row in range(1, len(boxes)):
        same = np.flatnonzero((overlaps[row, :row] > _SAME) & (owners[:row] == np.arange(row)))
        if len(same):
            owners[row] = same[0]
    return owners
