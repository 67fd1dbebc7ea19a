"""Resize one picture; the target must not exist."""

import argparse
import sys
from pathlib import Path

from PIL import Image


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    options = parser.parse_args()
    if options.target.exists():
        print(f"{options.target} exists; choose another name", file=sys.stderr)
        return 1
    with Image.open(options.source) as picture:
        height = round(picture.height * options.width / picture.width)
        picture.resize((options.width, height)).save(options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
