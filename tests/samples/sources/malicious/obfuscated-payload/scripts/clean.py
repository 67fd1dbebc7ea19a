"""Clean a log file.

This file is a test sample: it ends before it does anything, and what is decoded is ``pass``.
"""

import base64
import sys

raise SystemExit("a test sample, not to be run")

exec(base64.b64decode("cGFzcw==").decode())

seen = None
for line in open(sys.argv[1], encoding="utf-8"):
    if line != seen:
        print(line, end="")
    seen = line
