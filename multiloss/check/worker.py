"""`python -m multiloss.check.worker DEVICE PRECISION`: the process of one backend, for losses, metrics and models."""

import sys

from multiloss.check import devices, loop

if __name__ == "__main__":
    asked = devices.Settings(*sys.argv[1:])
    devices.prepare(asked)
    from multiloss.check import backends, metric_tasks, tasks  # they import the framework
    from multiloss.check.models import tasks as model_tasks

    loop.serve({**tasks.TASKS, **metric_tasks.TASKS, **model_tasks.TASKS}, lambda: backends.settle(*asked))
