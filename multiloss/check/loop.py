"""The loop of a worker process: it runs tasks as they are asked for, whatever the checked loss does. No framework.

A request is `pickle.dumps((name, arguments))` and a reply the pickle of `("done", result)` or `("error", message,
traceback)`, each pickled once more as bytes: what is inside can then fail to load without an end to the loop. They
come and go through what was standard input and output. The loss finds standard input empty, and what it prints goes
to standard error.
"""

import faulthandler
import os
import pickle
import traceback
from collections.abc import Callable, Mapping
from typing import Any


def serve(tasks: Mapping[str, Callable[..., Any]], first: Callable[[], None] = lambda: None) -> None:
    """Reply to requests for tasks, given by their names, until there are no more; before that, with `first`."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    faulthandler.enable(all_threads=False)  # the parent tells in which line the process crashed
    process = os.getpid()

    def send(reply: tuple[Any, ...]) -> None:
        pickle.dump(_packed(reply), replies)
        replies.flush()

    send(reply_of(first, {}))
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        reply = reply_of(_run, {"tasks": tasks, "request": request})
        if os.getpid() != process:
            os._exit(0)  # a fork that the loss made and did not end: the reply is the worker's
        send(reply)


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
