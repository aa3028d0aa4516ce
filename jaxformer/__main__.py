"""`python -m jaxformer` is the command `jaxformer`."""

import sys

if __name__ == "__main__":
    # Python puts the current folder first on its path, from which a file of data that happens to be
    # called json.py would be executed. As with the command, PYTHONPATH names the folders of code.
    if not sys.flags.safe_path:
        del sys.path[0]

    from jaxformer.cli.main import main

    sys.exit(main())
