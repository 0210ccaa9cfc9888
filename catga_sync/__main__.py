"""``python -m catga_sync`` is ``catga-sync``."""

import sys

from catga_sync.cli import main

if __name__ == "__main__":
    sys.exit(main())
