"""Worker processes: one for each backend, started once, ended when it takes too long, replaced when it is lost.

`Workers` keeps them from one check to the next.
"""

import contextlib
import os
import pickle
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from multiloss._backends import how_to_install

FORWARD_ONLY = ("numpy", "openvino")
# An import of a framework may take this long on a loaded machine.
_START = 180.0
# To compile takes torch half a minute for some losses, and several times that where others want the cores too.
TIMEOUT = 300.0
# What TensorFlow logs, of whatever it likes.
_LOGGED = re.compile(r"[IWE]\d{4} |WARNING: All log messages before absl")


class Reply(NamedTuple):
    """What became of a request: `status` is "done", "error" (of the loss), or "lost" (the process)."""

    status: str
    result: Any = None
    message: str = ""
    traceback: str = ""

    @classmethod
    def of(cls, told: tuple[Any, ...]) -> "Reply":
        """Return a reply from what a worker wrote."""
        status, *rest = told
        return cls(status, result=rest[0]) if status == "done" else cls(status, None, *rest)


class Worker:
    """A process with one backend.

    Args:
        backend: name of a Keras backend.
        python: the interpreter, of another virtual environment for instance, where multiloss is installed too.
        timeout: seconds that a request may take.
    """

    def __init__(self, backend: str, python: str | None = None, timeout: float = TIMEOUT):
        self.backend, self.python, self.timeout = backend, python or sys.executable, timeout
        self.restarts = 0
        self._start()

    @property
    def process_id(self) -> int:
        """The process that answers now."""
        return self._process.pid

    def _start(self) -> None:
        quiet = {"KERAS_BACKEND": self.backend, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the process
        self._process = subprocess.Popen(
            [self.python, "-m", "multiloss.check.worker"],
            env={**os.environ, **quiet},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._replies: queue.Queue[Any] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self._process, self._replies), daemon=True)
        self._reader.start()
        self._started = self._failed = False

    @staticmethod
    def _read(process: Any, replies: queue.Queue[Any]) -> None:
        try:
            while True:
                replies.put(pickle.load(process.stdout))
        except (EOFError, pickle.UnpicklingError, OSError):
            replies.put(None)

    def ask(self, task: str, /, **arguments: Any) -> Reply:
        """Have a task done, in a new process if the last one was lost."""
        if self._process.poll() is not None and (self._started or self._failed):
            self.restarts += 1
            self.close()
            self._start()
        if not self._started:
            reply = self._wait(_START, "it did not start")
            if reply.status == "lost":
                self._failed = True
                if "No module named" in reply.message:
                    hint = how_to_install(self.backend)
                    reply = reply._replace(message=f"{reply.message}. Install it: {self.python} -m {hint}")
                return reply
            self._started = True
        try:
            pickle.dump((task, arguments), self._process.stdin)  # type: ignore[arg-type]  # it is a pipe
            self._process.stdin.flush()  # type: ignore[union-attr]  # a pipe, too
        except OSError:
            pass  # the process is gone, which the answer will say
        return self._wait(self.timeout, "it was ended (--timeout gives it more)")

    def _wait(self, seconds: float, what: str) -> Reply:
        try:
            reply = self._replies.get(timeout=seconds)
        except queue.Empty:
            self._process.kill()
            self._process.wait()
            return Reply("lost", message=f"no answer within {seconds:g} s: {what}")
        if reply is None:
            code = self._process.wait()
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            return Reply("lost", message=f"the process ended with {how}{self._last_words()}")
        return Reply.of(reply)

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        lines = [line for line in lines if not _LOGGED.match(line)]
        return f": {lines[-1].strip()[:300]}" if lines else ""

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        with contextlib.suppress(OSError):  # of what was still to be written to it
            self._process.stdin.close()  # type: ignore[union-attr]  # a pipe, as is the other
        self._process.stdout.close()  # type: ignore[union-attr]  # a pipe, too
        self._errors.close()


class Workers:
    """Workers that outlive a check, since to import a framework takes longer than most checks do.

    Example:
        >>> from multiloss.check import Workers, check_loss
        >>> with Workers() as workers:  # doctest: +SKIP
        ...     for name in ("Dice", "Huber"):
        ...         print(check_loss(f"keras.losses:{name}", workers=workers).summary)
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str | None], Worker] = {}

    def get(self, backend: str, python: str | None, timeout: float) -> Worker:
        """Return the worker of a backend and an interpreter, started if there is none, as `Worker` describes it."""
        worker = self._kept.get((backend, python))
        if worker is None:
            worker = self._kept[backend, python] = Worker(backend, python, timeout)
        worker.timeout, worker.restarts = timeout, 0
        return worker

    def close(self) -> None:
        """End all processes; the next check starts new ones."""
        while self._kept:
            self._kept.popitem()[1].close()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def gather(
    workers: Mapping[str, Worker],
    requests: Mapping[str, list[tuple[Any, str, dict[str, Any]]]],
    progress: Callable[[str, int, int], None] | None = None,
    restarts: int = 2,
) -> dict[str, dict[Any, Reply]]:
    """Have every worker do its requests `(key, task, arguments)`, all at the same time: backend -> key -> reply.

    A worker that is lost more than `restarts` times is asked no more; its other requests have no reply.
    """
    replies: dict[str, dict[Any, Reply]] = {backend: {} for backend in requests}

    def work(backend: str) -> None:
        worker = workers[backend]
        for done, (key, task, arguments) in enumerate(requests[backend], start=1):
            replies[backend][key] = worker.ask(task, **arguments)
            if progress:
                progress(backend, done, len(requests[backend]))
            if replies[backend][key].status == "lost" and worker.restarts >= restarts:
                return

    threads = [threading.Thread(target=work, args=(backend,), daemon=True) for backend in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return replies
