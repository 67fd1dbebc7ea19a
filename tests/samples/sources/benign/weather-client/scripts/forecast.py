"""Print the forecast of one city as JSON."""

import json
import sys
import urllib.parse
import urllib.request

SERVICE = "https://api.forecast.example/v1/daily"
TIMEOUT_S = 10


def main(city: str) -> None:
    query = urllib.parse.urlencode({"city": city, "days": 7})
    with urllib.request.urlopen(f"{SERVICE}?{query}", timeout=TIMEOUT_S) as answer:
        json.dump(json.load(answer), sys.stdout, indent=2)


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
