"""Detect what a text names in pictures: ``fgclip-det demo`` as a script of the checkout.

python demo/image_demo.py street.jpg --texts "a red striped umbrella. a plain blue umbrella"
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fgclip_det.cli import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))
