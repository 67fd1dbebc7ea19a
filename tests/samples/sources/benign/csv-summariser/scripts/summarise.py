"""Print one line for each column of a CSV file: filled cells, distinct values, smallest, largest."""

import csv
import sys


def main(path: str) -> None:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    print(f"{len(rows)} rows")
    for column in rows[0] if rows else ():
        values = [row[column] for row in rows if row[column]]
        low, high = (min(values), max(values)) if values else ("", "")
        print(f"{column}: {len(values)} filled, {len(set(values))} distinct, {low!r} to {high!r}")


if __name__ == "__main__":
    main(sys.argv[1])
