"""``benchmarks`` is part of the checkout, and of no wheel."""

from __future__ import annotations

import sys
from pathlib import Path

# At the end: the package under test stays the one that is installed.
sys.path.append(str(Path(__file__).resolve().parents[2]))
