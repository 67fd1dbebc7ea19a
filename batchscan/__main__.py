"""``python -m batchscan`` is the same program as ``batchscan``."""

from batchscan.cli import main

if __name__ == "__main__":
    main()
