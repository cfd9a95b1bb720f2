"""Write the pictures' pixels into a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.domains.chain.judged import write

write(Path(sys.argv[1]))
