"""Workers: whatever a loss does to its process, there is one clear line, and nothing is left.

Most tests start a stub in place of a worker: the same loop with the tasks below, and no framework. Those that need a
framework start JAX, which starts first.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from multiloss.check import Workers, check_loss, pool
from multiloss.check.pool import Worker, gather

FAULTS = Path(__file__).parent / "faults.py"
STUB = """
import ctypes, os, signal, subprocess, sys, threading, time
import multiloss.check.loop

def echo(value=None): return value
def hang(seconds=600): time.sleep(seconds)
def hang_in_c(): ctypes.PyDLL(None).sleep(600)  # it holds the interpreter, so that no thread runs
def end(): os._exit(3)
def end_with_words():
    print("I0000 00:00:1.2 3 port.cc:1] oneDNN custom operations are on", file=sys.stderr)
    print("no such device", file=sys.stderr)
    print("I0000 00:00:1.2 3 port.cc:1] oneDNN custom operations are on", file=sys.stderr)
    os._exit(4)
def abort(): os.abort()
def segfault(): ctypes.string_at(0)
def killed(): os.kill(os.getpid(), signal.SIGKILL)
def leave(): sys.exit(3)
def interrupt(): raise KeyboardInterrupt
class Mute(Exception):
    def __str__(self): raise RuntimeError
def mute(): raise Mute
def take(gib):
    taken = []
    for _ in range(int(gib * 64)):  # by 16 MiB
        taken.append(b"x" * 2**24)
        time.sleep(0.002)
    return len(taken)
def chatter(lines):
    for i in range(lines): print("epoch", i, "of many", flush=False)
def scribble():
    os.write(1, b"bytes " * 10); subprocess.run(["echo", "from a child"]); return "unharmed"
def read(): return sys.stdin.read()
def fork():
    os.fork()
    return os.getpid()
def fork_and_end():
    if os.fork() == 0: time.sleep(600)
    os._exit(5)
def child():
    return subprocess.Popen(["sleep", "600"]).pid
def thread_that_ends():
    threading.Thread(target=lambda: (time.sleep(0.2), os._exit(6))).start()
def function(): return lambda: None
def own_class():
    class_ = type("Own", (), {"__reduce__": lambda self: (exec, ("raise ImportError('no module of yours')",))})
    return class_()
multiloss.check.loop.serve(globals())
"""
# Seconds that a stub takes to start on a loaded machine are not counted, a reply at once is.
SOON = 20


@pytest.fixture
def stub(tmp_path):
    """The path of an interpreter that runs the stub."""
    (tmp_path / "stub.py").write_text(STUB)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/stub.py"\n')
    python.chmod(0o755)
    return str(python)


@pytest.fixture
def worker(stub):
    with contextlib.closing(Worker("jax", stub, SOON)) as worker:
        yield worker


def group(process_id):
    """The processes of a group, those left out that have ended."""
    command = ["ps", "-e", "-o", "pgid=,pid=,stat=,args="]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if int(line.split()[0]) == process_id and not line.split()[2].startswith("Z")]


def gone(process_id, seconds=5):
    """Whether a group ends within seconds."""
    end = time.monotonic() + seconds
    while group(process_id) and time.monotonic() < end:
        time.sleep(0.05)
    return not group(process_id)


# --- how a process can end -------------------------------------------------------------------------------------------

ENDS = {
    "end": "the process ended with exit code 3",
    "end_with_words": "the process ended with exit code 4: no such device",
    "abort": 'the process ended by signal SIGABRT (aborted) (File "{stub}", line {line} in abort)',
    "segfault": 'the process ended by signal SIGSEGV (segmentation fault) (File "{stub}", line {line} in segfault)',
    "killed": "the process was killed by the system, probably for want of memory",
    "fork_and_end": "the process ended with exit code 5",
}


@pytest.mark.parametrize("task", ENDS)
def test_a_process_that_ends_is_told_in_one_line_and_started_again(task, worker, stub):
    worker.ask("child")
    first = worker.process_id
    began = time.monotonic()
    reply = worker.ask(task)
    assert time.monotonic() - began < SOON / 2
    line = next((i for i, text in enumerate(STUB.splitlines(), 1) if text.startswith(f"def {task}(")), None)
    message = ENDS[task].format(stub=Path(stub).with_name("stub.py"), line=line)
    assert (reply.status, reply.message) == ("lost", message)
    assert gone(first)
    assert worker.ask("echo", value=1).result == 1
    assert (worker.lost, worker.hung) == (1, 0)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("leave", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("mute", "Mute"),
        ("function", "the result cannot be pickled: "),
        ("own_class", "the result cannot be unpickled: ImportError: no module of yours"),
        ("nothing", "KeyError: 'nothing'"),
    ],
)
def test_what_is_raised_is_a_reply(task, message, worker):
    first = worker.process_id
    reply = worker.ask(task)
    assert reply.status == "error"
    assert reply.message.startswith(message)
    assert worker.ask("echo", value=1).result == 1
    assert worker.process_id == first


def test_a_thread_that_ends_the_process_between_requests_costs_no_other_request(worker):
    assert worker.ask("thread_that_ends").status == "done"
    worker._process.popen.wait()
    assert worker.ask("echo", value=1).result == 1
    assert worker.lost == 1


def test_forks_and_prints_do_not_disturb_the_replies(worker):
    first = worker.ask("fork").result
    assert first == worker.process_id
    assert worker.ask("scribble").result == "unharmed"
    assert worker.ask("read").result == ""
    big = np.arange(3_000_000)  # more than a pipe holds, in both directions
    np.testing.assert_array_equal(worker.ask("echo", value=big).result, big)
    assert worker.process_id == first
    assert worker.lost == 0


def test_what_is_no_reply_loses_the_process(worker):
    worker.ask("echo")
    first = worker.process_id
    pipe = os.readlink(f"/proc/self/fd/{worker._process.popen.stdout.fileno()}")
    with open(f"/proc/{first}/fd/{_end_of(first, pipe)}", "wb") as replies:
        replies.write(b"?")
    reply = worker.ask("hang")
    assert reply.message == "the process wrote something other than a reply, or closed the pipe: it was killed"
    assert gone(first)


def _end_of(process_id, pipe):
    folder = Path(f"/proc/{process_id}/fd")
    return next(path.name for path in folder.iterdir() if os.readlink(path) == pipe)


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["hang", "hang_in_c"])
def test_a_process_that_hangs_is_killed_with_its_children(task, worker):
    worker.ask("child")
    worker.timeout, first = 0.5, worker.process_id
    reply = worker.ask(task)
    message = "no reply within 0.5 s: the process was killed (--timeout raises the limit)"
    assert (reply.status, reply.message) == ("lost", message)
    assert gone(first)


def test_a_loss_that_hangs_in_every_request_is_given_up_after_the_second(worker, monkeypatch):
    monkeypatch.setattr(pool, "_LEAST", 0.3)
    worker.timeout = 1
    replies = gather({"jax": worker}, {"jax": [(i, "hang", {}) for i in range(5)]}, restarts=2)["jax"]
    assert [reply.message for reply in replies.values()] == [
        "no reply within 1 s: the process was killed (--timeout raises the limit)",
        "no reply within 0.3 s, fewer since another request hung: the process was killed (--timeout raises the limit)",
    ]
    assert gather({"jax": worker}, {"jax": [(0, "echo", {})]}) == {"jax": {}}  # nor asked for anything later
    worker.renew(1, 1)
    assert gather({"jax": worker}, {"jax": [(0, "echo", {})]})["jax"][0].status == "done"


def test_a_process_that_ends_in_every_request_is_restarted_twice(worker):
    replies = gather({"jax": worker}, {"jax": [(i, "end", {}) for i in range(5)]}, restarts=2)["jax"]
    assert [reply.status for reply in replies.values()] == ["lost"] * 3


def test_a_request_that_takes_too_much_memory_is_killed(worker):
    worker.memory = 0.25
    worker.ask("echo")
    assert worker.ask("take", gib=0.125).status == "done"  # less than the limit
    first = worker.process_id
    reply = worker.ask("take", gib=8)
    message = "took more than 0.25 GiB of memory for one batch (--memory raises the limit)"
    assert (reply.status, reply.message) == ("lost", message)
    assert gone(first)


def test_memory_is_read_from_ps_where_there_is_no_other_way(worker, monkeypatch):
    worker.ask("echo")
    other = pool._memory(worker.process_id)
    monkeypatch.setattr(pool, "_STATM", False)
    monkeypatch.setattr(pool, "_PS", "ps")
    # `ps` counts files too, such as the interpreter's own.
    assert other < pool._memory(worker.process_id) < other + 2**26
    monkeypatch.setattr(pool, "_PS", None)
    assert pool._memory(worker.process_id) == 0  # no limit


def test_many_lines_fill_nothing(worker):
    worker.ask("echo")
    assert worker.printed == 0
    began = time.process_time()
    assert worker.ask("chatter", lines=200_000).status == "done"
    assert time.process_time() - began < 5  # of this process, which reads them
    time.sleep(0.1)  # the last of it is read
    assert worker.printed == sum(len(f"epoch {i} of many\n") for i in range(200_000))
    assert len(worker._process._output.tail) <= pool._TAIL
    assert worker.ask("end").message == "the process ended with exit code 3: epoch 199999 of many"
    worker.renew(SOON, 1)
    assert worker.printed == 0


# --- nothing is left --------------------------------------------------------------------------------------------------

PARENT = """
import signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where tests run in the background
from multiloss.check.pool import Workers, gather
with Workers() as workers:
    worker = workers.get("jax", sys.argv[1], 600, 8)
    worker.ask("child")
    print(worker.process_id, worker._process.guard.pid, flush=True)
    gather({"jax": worker}, {"jax": [(0, sys.argv[2], {})]})
"""


@pytest.mark.parametrize("task", ["hang", "hang_in_c"])
@pytest.mark.parametrize("sent", [["SIGINT"], ["SIGINT", "SIGINT"], ["SIGTERM"], ["SIGKILL"]], ids=" ".join)
def test_nothing_is_left_when_the_parent_ends(task, sent, stub):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, stub, task], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        try:
            worker, guard = map(int, parent.stdout.readline().split())
            time.sleep(0.3)  # it hangs by now
            assert len(group(worker)) == 2  # the worker and what it started
            assert len(group(guard)) == 1
            for name in sent:
                parent.send_signal(getattr(signal, name))
                time.sleep(0.01)
            assert gone(worker), group(worker)
            assert gone(guard), group(guard)
            parent.wait(timeout=10)
        finally:
            parent.kill()


def test_a_check_that_is_interrupted_ends_the_processes_and_others_can_follow(worker):
    def interrupt(*_):
        raise KeyboardInterrupt

    requests = {"jax": [(0, "echo", {}), (1, "hang", {}), (2, "hang", {})]}
    with pytest.raises(KeyboardInterrupt):
        gather({"jax": worker}, requests, progress=interrupt)
    assert gone(worker.process_id)
    assert worker.ask("echo", value=1).result == 1


def test_a_request_that_cannot_be_pickled_is_raised(worker):
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        gather({"jax": worker}, {"jax": [(0, "echo", {"value": lambda: None})]})


def test_a_closed_worker_starts_no_process(worker):
    worker.ask("echo")
    worker.close()
    assert worker.ask("echo").message == "the worker was closed"
    assert gone(worker.process_id)


# A process that nobody closes is what this is about, and Python warns of it.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_worker_that_is_forgotten_ends(stub):
    worker = Worker("jax", stub)
    worker.ask("child")
    process_id = worker.process_id
    del worker
    assert gone(process_id)


# --- workers of frameworks -------------------------------------------------------------------------------------------


def failures(report):
    return {(cell.check, cell.backend) for cell in report.failures}


def test_a_backend_of_another_interpreter(tmp_path):
    """Here one that leaves a trace of having been used."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ntouch "{tmp_path}/used"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    report = check_loss(f"{FAULTS}:LostParameter", backends={"jax": str(python)}, checks=["config"])
    assert failures(report) == {("config", "jax")}, report.text()
    assert (tmp_path / "used").exists()
    assert f"--backends jax --backend jax={python} --only config" in report.failures[0].reproduce


def test_a_worker_that_could_not_start_is_started_again(tmp_path):
    python = tmp_path / "python"
    logged = "I0000 00:00:1.2 3 port.cc:1] oneDNN custom operations are on"
    python.write_text(
        f"#!/bin/sh\nif [ -e '{tmp_path}/ready' ]; then exec '{sys.executable}' \"$@\"; fi\n"
        f"echo \"ModuleNotFoundError: No module named 'keras'\" >&2; echo '{logged}' >&2; exit 1\n"
    )
    python.chmod(0o755)
    with Workers() as workers:
        for _ in range(2):
            report = check_loss(f"{FAULTS}:Right", backends={"jax": str(python)}, checks=["config"], workers=workers)
            (cell,) = report.failures
            assert cell.detail == (
                "the process ended with exit code 1: ModuleNotFoundError: No module named 'keras'. "
                f'Install it: {python} -m pip install "multiloss[jax]"'
            )
        (tmp_path / "ready").touch()
        report = check_loss(f"{FAULTS}:Right", backends={"jax": str(python)}, checks=["config"], workers=workers)
    assert report.ok, report.text()


def test_a_loss_that_hangs_is_ended():
    with contextlib.closing(Worker("jax")) as worker:
        assert worker.ask("describe", target=f"{FAULTS}:HangOnJax").status == "done"
        worker.timeout = 2
        batch = np.ones((6, 3), np.float32)
        reply = worker.ask("run", target=f"{FAULTS}:HangOnJax", y=batch, x=batch)
        assert gone(worker.process_id)
    assert reply.message == "no reply within 2 s: the process was killed (--timeout raises the limit)"


def test_workers_are_kept_from_one_check_to_the_next(workers):
    seen = set()
    for name in ("MeanSquaredError", "MeanAbsoluteError"):
        check_loss(f"keras.losses:{name}", backends=["torch"], checks=["value"], workers=workers)
        seen.add(workers.get("torch", None).process_id)
    assert len(seen) == 1
