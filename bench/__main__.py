"""`python -m bench`: the same as `python -m bench.overhead`, with the same options."""

from __future__ import annotations

import sys

from bench.overhead import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
