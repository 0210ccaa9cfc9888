"""``python -m catga_sync`` is ``catga-sync``."""

import sys

from catga_sync.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
