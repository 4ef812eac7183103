"""The process of one backend: reads requests, does the tasks, writes replies.

`python -m multiloss.check.worker` reads pickled requests `(name, arguments)` from standard input and writes pickled
replies, `("done", result)` or `("error", message, traceback)`, to the original standard output. Output of the checked
loss goes to standard error.
"""

import os
import pickle
import sys
import threading
import time

from multiloss.check import backends, tasks


def _end_without(parent: int) -> None:
    """End this process when its parent ends: a process that hangs in a loss would not notice that."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    """Reply to requests until there are no more."""
    threading.Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    pickle.dump(("done", {"backend": backends.BACKEND}), replies)
    replies.flush()
    while True:
        try:
            name, arguments = pickle.load(requests)
        except EOFError:
            return
        pickle.dump(tasks.reply(tasks.TASKS[name], arguments), replies)
        replies.flush()


if __name__ == "__main__":
    main()
