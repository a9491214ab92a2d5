"""`python -m meshlab` is the command line."""

import sys

from meshlab.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
