"""`python -m jaxformer` is the command `jaxformer`."""

import sys

from jaxformer.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
