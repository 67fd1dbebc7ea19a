"""The real program, and beside it a thread that counts its asyncio tasks: ``soak_service.py FILE ARGS``.

No metric tells how many tasks there are; a leaked one is seen only from inside.
"""

import asyncio
import gc
import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from batchscan.cli import main

EVERY_S = 10.0


def count_tasks(file: Path) -> None:
    """Append a line of what is not done, by the name of its coroutine."""
    with file.open("a") as lines:
        while True:
            time.sleep(EVERY_S)
            found = gc.get_objects()
            tasks = Counter(
                getattr(each.get_coro(), "__qualname__", "?")
                for each in found
                if isinstance(each, asyncio.Task) and not each.done()
            )
            line = {"at": time.time(), "tasks": tasks.total(), "objects": len(found), "by_name": tasks}
            del found
            lines.write(json.dumps(line) + "\n")
            lines.flush()


if __name__ == "__main__":
    threading.Thread(target=count_tasks, args=(Path(sys.argv.pop(1)),), daemon=True).start()
    main()
