"""`python -m pipelines` and `image-to-3d`: the command line, see `cli`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
