"""Worker processes, one per backend: started once, killed after a timeout, restarted when lost.

`Workers` keeps them between checks.
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
# Importing a framework may take this long on a loaded machine.
_START = 180.0
# torch takes half a minute to compile some losses, and several times that when the cores are shared.
TIMEOUT = 300.0
MEMORY = 2.0
# TensorFlow's log lines, which are not the cause of an exit.
_LOGGED = re.compile(r"[IWE]\d{4} |WARNING: All log messages before absl")


class Reply(NamedTuple):
    """The reply to a request: `status` is "done", "error" (the loss raised), or "lost" (the process ended)."""

    status: str
    result: Any = None
    message: str = ""
    traceback: str = ""

    @classmethod
    def of(cls, written: tuple[Any, ...]) -> "Reply":
        """Return a reply from the tuple that a worker wrote."""
        status, *rest = written
        return cls(status, result=rest[0]) if status == "done" else cls(status, None, *rest)


class Worker:
    """A process with one backend.

    Args:
        backend: name of a Keras backend.
        python: path of the interpreter, for example in another virtual environment; it needs multiloss installed.
        timeout: seconds until a request is given up.
    """

    def __init__(self, backend: str, python: str | None = None, timeout: float = TIMEOUT):
        self.backend, self.python, self.timeout = backend, python or sys.executable, timeout
        self.restarts = 0
        self._start()

    @property
    def process_id(self) -> int:
        """The id of the current process."""
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
        """Run a task in the worker, in a new process if the last one was lost."""
        if self._process.poll() is not None and (self._started or self._failed):
            self.restarts += 1
            self.close()
            self._start()
        if not self._started:
            reply = self._wait(_START, "the process did not start")
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
            pass  # the process ended, which the reply will report
        return self._wait(self.timeout, "the process was killed (--timeout raises the limit)")

    def _wait(self, seconds: float, outcome: str) -> Reply:
        try:
            reply = self._replies.get(timeout=seconds)
        except queue.Empty:
            self._process.kill()
            self._process.wait()
            return Reply("lost", message=f"no reply within {seconds:g} s: {outcome}")
        if reply is None:
            code = self._process.wait()
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            return Reply("lost", message=f"the process ended with {how}{self._last_error()}")
        return Reply.of(reply)

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        lines = [line for line in lines if not _LOGGED.match(line)]
        return f": {lines[-1].strip()[:300]}" if lines else ""

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        with contextlib.suppress(OSError):  # of requests not yet written
            self._process.stdin.close()  # type: ignore[union-attr]  # a pipe, as is the other
        self._process.stdout.close()  # type: ignore[union-attr]  # a pipe, too
        self._errors.close()


class Workers:
    """Workers that are kept between checks, since importing a framework takes longer than most checks.

    Example:
        >>> from multiloss.check import Workers, check_loss
        >>> with Workers() as workers:  # doctest: +SKIP
        ...     for name in ("Dice", "Huber"):
        ...         print(check_loss(f"keras.losses:{name}", workers=workers).summary)
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str | None], Worker] = {}

    def get(self, backend: str, python: str | None, timeout: float, memory: float = MEMORY) -> Worker:
        """Return the worker for a backend and an interpreter, started if needed; arguments as in `Worker`."""
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
    """Run each worker's requests `(key, task, arguments)`, workers in parallel: backend -> key -> reply.

    A worker that is lost more than `restarts` times gets no more requests; the remaining ones have no reply.
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
