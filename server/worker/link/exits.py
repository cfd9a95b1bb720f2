"""With which codes a worker's process ends of itself."""

from __future__ import annotations

EXIT_OK, EXIT_CANNOT_START, EXIT_STICKY, EXIT_ORPHANED = 0, 1, 3, 4
EXIT_NODE_GONE = 6
"""Only of what stands for a worker on another machine: that machine is not there."""
