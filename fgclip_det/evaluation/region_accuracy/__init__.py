"""FG-CLIP's accuracy on given boxes."""
