"""`python -m medgen` is `medgen`."""

import sys

from medgen.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
