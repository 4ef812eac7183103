"""`python -m multiloss.check.worker`: the process of one backend, which does the tasks of `tasks`."""

from multiloss.check import loop, tasks

if __name__ == "__main__":
    loop.serve(tasks.TASKS)
