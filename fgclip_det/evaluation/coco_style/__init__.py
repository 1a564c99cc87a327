"""Average precision as COCO counts it, one class at a time, by whichever library is there."""
