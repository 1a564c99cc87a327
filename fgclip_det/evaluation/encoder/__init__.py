"""FG-CLIP's own evaluation of an encoder, from the stock files of each data set."""
