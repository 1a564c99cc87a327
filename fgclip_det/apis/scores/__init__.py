"""What scores of detections mean: who competes, and the least that is reported."""
