"""``python -m fgclip_det.cli``."""

import sys

from fgclip_det.cli import main

if __name__ == "__main__":
    sys.exit(main())
