"""The loop of a worker process: it runs tasks as they are asked for, whatever the checked loss does. No framework.

A request is `pickle.dumps((name, arguments))` and a reply the pickle of `("done", result)` or `("error", message,
traceback)`, each pickled once more as bytes: what is inside can then fail to load without an end to the loop. They
come and go through what was standard input and output. The loss finds standard input empty, and what it prints goes
to standard error.
"""

import faulthandler
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

# A process beside the worker, which ends the worker's whole group when the parent ended, even by SIGKILL: a loss that
# hangs in C holds the interpreter, so no thread of the worker could do that. The pipe tells that its other end is
# closed; the look at the parent is for a pipe that a fork of the parent still holds.
_GUARD = """
import os, select, signal, sys
requests = select.poll()
requests.register(0, 0)
try:
    while not requests.poll(1000):
        os.kill(int(sys.argv[1]), 0)
finally:
    os.killpg(0, signal.SIGKILL)
"""


def serve(load: Callable[[], Mapping[str, Callable[..., Any]]]) -> None:
    """Reply to requests until there are no more. `load` imports the tasks, by name; the first reply is that it did."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    faulthandler.enable(all_threads=False)  # the parent tells in which line the process crashed
    guard = _guard(requests)
    tasks, process = load(), os.getpid()

    def send(reply: tuple[Any, ...]) -> None:
        pickle.dump(_packed(reply), replies)
        replies.flush()

    send(("done", None))
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            break
        reply = reply_of(_run, {"tasks": tasks, "request": request})
        if os.getpid() != process:
            os._exit(0)  # a fork that the loss made and did not end: the reply is the worker's
        send(reply)
    del guard


def reply_of(task: Callable[..., Any], arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the reply to a request: anything that a loss raises becomes one, `SystemExit` too."""
    try:
        return "done", task(**arguments)
    except BaseException as error:
        return "error", _text(error), traceback.format_exc()


def _run(tasks: Mapping[str, Callable[..., Any]], request: bytes) -> Any:
    name, arguments = pickle.loads(request)
    return tasks[name](**arguments)


def _packed(reply: tuple[Any, ...]) -> bytes:
    try:
        return pickle.dumps(reply)
    except BaseException as error:
        return pickle.dumps(("error", f"the result cannot be pickled: {_text(error)}", traceback.format_exc()))


def _text(error: BaseException) -> str:
    try:
        return ": ".join(part for part in (type(error).__name__, str(error).strip()) if part)
    except BaseException:  # of a loss's own class of exceptions
        return type(error).__name__


def _guard(requests: BinaryIO) -> Any:
    if os.name != "posix":
        return None  # a worker that waits ends with its parent, one that hangs does not
    command = [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getppid())]
    return subprocess.Popen(command, stdin=requests, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
