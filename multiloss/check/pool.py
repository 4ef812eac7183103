"""Worker processes, one per backend: started once, killed at their limits, restarted when lost.

A worker and all that it starts are one process group, which ends as a whole: by `_Process.end`, or by a guard if this
process ends first. `Workers` keeps workers between checks.
"""

import contextlib
import math
import mmap
import os
import pickle
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from multiloss._backends import how_to_install
from multiloss.check.devices import Settings

FORWARD_ONLY = ("numpy", "openvino")
_DEFAULTS = Settings()
# Importing a framework may take this long on a loaded machine.
_START = 180.0
# torch takes half a minute to compile some losses, and two when the cores are shared.
TIMEOUT = 180.0
# GiB that a request may take: six times the most that compiling our own losses took, 323 MiB with JAX.
MEMORY = 2.0
# A loss that hangs once often hangs always: then this part of the limit must do, or this many seconds if that is more.
_LESS, _LEAST = 0.25, 30.0
# A process that waits until the other end of its pipe is closed, as it is when this process ends, even by SIGKILL, and
# then ends a group. No thread of a worker could do that: a loss that hangs in C lets no other thread run.
_GUARD = 'read _; kill -s KILL -- "-$1"'
# So often may a worker hang that gets another request.
_HANGS = 1
# A worker's memory is read from a file on Linux, from `ps` elsewhere, which takes several milliseconds.
_STATM = os.path.exists("/proc/self/statm")
_PS = None if _STATM else shutil.which("ps")
_LOOK = 0.05 if _STATM else 0.5
# Of what a process prints, its end is kept: room for a traceback of a crash.
_TAIL = 2**16
_LATE, _LARGE = "late", "large"  # why there is no reply
# Not the cause of an exit: TensorFlow's log lines, and the rest of what Python's handler of crashes writes.
_LOGGED = re.compile(r"[IWE]\d{4} |WARNING: All log messages before absl")
_CRASH = re.compile(r"^Fatal Python error: .*", re.MULTILINE | re.DOTALL)
_LIBRARY = os.path.dirname(os.__file__)
_FRAME = re.compile(r'^  (File "(.*)", line \d+ in .*)$', re.MULTILINE)


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


class _Output:
    """What a process prints: read as it comes, so that it waits for no one, and kept as far as its end."""

    def __init__(self, stream: Any):
        self.size, self.tail = 0, b""
        self.thread = _thread(self._follow, stream)

    def _follow(self, stream: Any) -> None:
        with stream:
            while part := os.read(stream.fileno(), 2**16):
                self.size += len(part)
                self.tail = (self.tail + part)[-_TAIL:]
                if len(part) < _TAIL // 16:
                    time.sleep(0.002)  # a million short lines are then read as some hundred long parts

    @property
    def cause(self) -> str:
        """The last line, and where the process crashed, if they are known: in a form that ends a message."""
        text = self.tail.decode(errors="replace")
        crash = _CRASH.search(text)
        frames = [] if crash is None else [match.groups() for match in _FRAME.finditer(crash[0])]
        own = [frame for frame, path in frames if "site-packages" not in path and not path.startswith(_LIBRARY)]
        where = f" ({(own or [frames[0][0]])[0]})" if frames else ""
        lines = [line.strip() for line in (text if crash is None else text[: crash.start()]).splitlines()]
        lines = [line for line in lines if line and not _LOGGED.match(line)]
        return (f": {lines[-1][:300]}" if lines else "") + where


class _Process:
    """One process of a worker, from its start to its end."""

    def __init__(self, backend: str, python: str, settings: Settings):
        quiet = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
        self.popen = subprocess.Popen(
            [python, "-m", "multiloss.check.worker", *settings],
            env={**os.environ, **quiet},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a group of its own, which Ctrl-C does not reach; no effect on Windows
        )
        self.ended = self.started = False
        self._killed, self._lock = False, threading.Lock()
        self.guard: subprocess.Popen[bytes] | None = None
        if sys.platform != "win32":  # there, a worker that waits ends with this process, one that hangs does not
            command = ["/bin/sh", "-c", _GUARD, "guard", str(self.popen.pid)]
            self.guard = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            # The threads below hold the pipes and not this object, so that one that is forgotten ends, too.
            weakref.finalize(self, self.guard.stdin.close)  # type: ignore[union-attr]  # it is a pipe
        self._replies: queue.Queue[Reply | None] = queue.Queue()
        self._reader = _thread(_read, self.popen.stdout, self._replies)
        self._writer: threading.Thread | None = None
        self._output = _Output(self.popen.stderr)
        self._first_output = 0

    def start(self) -> Reply | str:
        """Wait until the framework is imported."""
        reply = self.receive(_START)
        self.started = isinstance(reply, Reply) and reply.status == "done"
        self._first_output = self._output.size
        return reply

    @property
    def printed(self) -> int:
        """Bytes that the process printed since it started."""
        return self._output.size - self._first_output if self.started else 0

    def send(self, request: bytes) -> None:
        """Send a request, in a thread: a process that does not read would hold this one up."""
        self._writer = _thread(_write, self.popen.stdin, request)

    def receive(self, seconds: float, memory: float = math.inf) -> Reply | str:
        """Return the reply, or if there is none `_LATE`, `_LARGE`, or how the process ended."""
        pid, end = self.popen.pid, time.monotonic() + seconds
        limit = math.inf if memory == math.inf else _memory(pid) + memory * 2**30
        while True:
            left = max(0.0, end - time.monotonic())
            with contextlib.suppress(queue.Empty):
                return self._replies.get(timeout=min(_LOOK, left)) or self._how()
            if self.popen.poll() is not None:
                self.end()  # what it has left running may hold the pipe, which then ends only with the group
                with contextlib.suppress(queue.Empty):
                    return self._replies.get(timeout=1) or self._how()
                return self._how()
            if limit < math.inf and _memory(pid) > limit:
                return _LARGE
            if not left:
                return _LATE

    def end(self) -> None:
        """End the process and all that it started."""
        with self._lock:
            if not self.ended:
                self.ended, self._killed = True, self.popen.poll() is None
                if sys.platform != "win32":
                    # Where all have ended, macOS permits no signal.
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(self.popen.pid, signal.SIGKILL)
                self.popen.kill()
                if self.guard is not None:
                    self.guard.kill()
                    self.guard.wait()
                    self.guard.stdin.close()  # type: ignore[union-attr]  # a pipe, too
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout=5)
        threads = [self._reader, self._output.thread, *([self._writer] if self._writer else [])]
        for thread in threads:
            thread.join(timeout=1)  # a process that left the group may hold the pipes
        if not any(thread.is_alive() for thread in threads):
            self.popen.stdin.close()  # type: ignore[union-attr]  # it is a pipe

    def _how(self) -> str:
        """Return how a process ended whose pipe did."""
        try:
            code = self.popen.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.end()
            return "the process wrote something other than a reply, or closed the pipe: it was killed"
        self.end()
        if self._killed:
            return "the process was ended by `close`"
        if code == -getattr(signal, "SIGKILL", 0):
            return "the process was killed by the system, probably for want of memory"
        cause = self._output.cause
        if code >= 0:
            return f"the process ended with exit code {code}{cause}"
        name = {each.value: each.name for each in signal.Signals}.get(-code, str(-code))  # real-time ones have no name
        return f"the process ended by signal {name} ({(signal.strsignal(-code) or name).lower()}){cause}"


def _thread(function: Callable[..., None], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def _read(stream: Any, replies: queue.Queue[Reply | None]) -> None:
    with stream:
        while True:
            try:
                written = pickle.load(stream)
            except Exception:  # its end, or what is no reply
                replies.put(None)
                return
            try:
                reply = Reply.of(pickle.loads(written))
            except Exception as error:  # for example a class that only the worker can import
                reply = Reply("error", None, f"the result cannot be unpickled: {type(error).__name__}: {error}")
            replies.put(reply)


def _write(stream: Any, request: bytes) -> None:
    rest = memoryview(request)
    with contextlib.suppress(OSError):  # the process ended, which the reply will report
        while rest:
            rest = rest[os.write(stream.fileno(), rest) :]


def _memory(process_id: int) -> int:
    """Return the bytes of memory that a process holds, on Linux without those of files; 0 if that cannot be read."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        if _STATM:
            with open(f"/proc/{process_id}/statm") as file:
                _, resident, shared, *_ = map(int, file.read().split())
            return (resident - shared) * mmap.PAGESIZE
        if _PS:
            command = [_PS, "-o", "rss=", "-p", str(process_id)]
            return 1024 * int(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    return 0


class Worker:
    """A process with one backend, started again if it is lost.

    Args:
        backend: name of a Keras backend.
        python: path of the interpreter, for example in another virtual environment; it needs multiloss installed.
        timeout: seconds until a request is given up. Once one was, others are given up sooner.
        memory: GiB that a request may take beyond what the process held when it was asked.
        settings: the device and the precision.

    Attributes:
        lost: how many requests lost the process.
        hung: how many of these took longer than they may.
    """

    def __init__(
        self,
        backend: str,
        python: str | None = None,
        timeout: float = TIMEOUT,
        memory: float = MEMORY,
        settings: Settings = _DEFAULTS,
    ):
        self.backend, self.python, self.settings = backend, python or sys.executable, settings
        self._lock, self._closed = threading.Lock(), False
        self._process = _Process(backend, self.python, settings)
        self.renew(timeout, memory)

    def renew(self, timeout: float, memory: float) -> None:
        """Set the limits, and count anew what is lost and printed."""
        self.timeout, self.memory = timeout, memory
        self.lost = self.hung = 0
        self._printed = -self._process.printed

    @property
    def process_id(self) -> int:
        """The id of the current process and of its group."""
        return self._process.popen.pid

    @property
    def printed(self) -> int:
        """Bytes that requests printed. Of what they print, only the end is kept."""
        return self._printed + self._process.printed

    def ask(self, task: str, /, **arguments: Any) -> Reply:
        """Run a task in the worker, in a new process if the last one was lost."""
        request = pickle.dumps(pickle.dumps((task, arguments)))
        process = self._process
        if process.started and not process.ended and process.popen.poll() is not None:
            process.end()  # between two requests, by what a loss left running
            self.lost += 1
        with self._lock:
            if self._closed:
                return Reply("lost", message="the worker was closed")
            if process.ended:
                self._printed += process.printed
                process = self._process = _Process(self.backend, self.python, self.settings)
        if not process.started:
            reply = process.start()
            if isinstance(reply, str):
                if "No module named" in reply:
                    reply = f"{reply}. Install it: {self.python} -m {how_to_install(self.backend)}"
                return self._lost(
                    process, f"no reply within {_START:g} s: it did not start" if reply == _LATE else reply
                )
            if not process.started:  # it has no such device
                process.end()
                return reply
        process.send(request)
        seconds = max(_LESS * self.timeout, min(_LEAST, self.timeout)) if self.hung else self.timeout
        reply = process.receive(seconds, self.memory)
        if isinstance(reply, Reply):
            return reply
        if reply == _LARGE:
            reply = f"took more than {self.memory:g} GiB of memory for one batch (--memory raises the limit)"
        if reply == _LATE:
            why = ", fewer since another request hung" if self.hung and seconds < self.timeout else ""
            self.hung += 1
            reply = f"no reply within {seconds:g} s{why}: the process was killed (--timeout raises the limit)"
        return self._lost(process, reply)

    def _lost(self, process: _Process, message: str) -> Reply:
        process.end()
        self.lost += 1
        return Reply("lost", message=message)

    def kill(self) -> None:
        """End the process and all that it started. The next request starts a new one."""
        self._process.end()

    def close(self) -> None:
        """End the process and all that it started, for good."""
        with self._lock:
            self._closed = True
        self.kill()


class Workers:
    """Workers that are kept between checks, since importing a framework takes longer than most checks.

    Examples:
        >>> from multiloss.check import Workers, check_loss
        >>> with Workers() as workers:  # doctest: +SKIP
        ...     for name in ("Dice", "Huber"):
        ...         print(check_loss(f"keras.losses:{name}", workers=workers).summary)
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str | None, Settings], Worker] = {}

    def get(
        self,
        backend: str,
        python: str | None,
        timeout: float = TIMEOUT,
        memory: float = MEMORY,
        settings: Settings = _DEFAULTS,
    ) -> Worker:
        """Return the worker for these settings, started if needed; arguments as in `Worker`."""
        worker = self._kept.get((backend, python, settings))
        if worker is None:
            worker = self._kept[backend, python, settings] = Worker(backend, python, timeout, memory, settings)
        worker.renew(timeout, memory)
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

    A worker that was lost more than `restarts` times, or twice by hanging, gets no more requests; the remaining ones
    have no reply. `progress` is called in this thread. If it raises, as when Ctrl-C interrupts it, the processes end.
    """
    replies: dict[str, dict[Any, Reply]] = {backend: {} for backend in requests}
    # Backend, whether that is all of it, and a key with its reply or an error.
    news: queue.Queue[tuple[str, bool, Any, Any]] = queue.Queue()
    stopped = threading.Event()

    def work(backend: str) -> None:
        worker, error = workers[backend], None
        try:
            for key, task, arguments in requests[backend]:
                if stopped.is_set() or worker.lost > restarts or worker.hung > _HANGS:
                    break
                news.put((backend, False, key, worker.ask(task, **arguments)))
        except BaseException as raised:
            error = raised
        news.put((backend, True, None, error))

    working = set(requests)
    threads: dict[str, threading.Thread] = {}
    try:
        for backend in requests:
            threads[backend] = _thread(work, backend)
        while working:
            backend, finished, key, reply = news.get()
            if not finished:
                replies[backend][key] = reply
                if progress:
                    progress(backend, len(replies[backend]), len(requests[backend]))
                continue
            working.remove(backend)
            if reply is not None:
                raise reply
    except BaseException:
        stopped.set()
        for backend, thread in threads.items():
            while thread.is_alive():  # it may be about to start another process
                workers[backend].kill()
                thread.join(timeout=0.1)
        raise
    return replies
