"""`python -m multiloss.check.worker`: the process of one backend, which does the tasks of losses and metrics."""

from multiloss.check import loop, metric_tasks, tasks
from multiloss.check.models import tasks as model_tasks

if __name__ == "__main__":
    loop.serve({**tasks.TASKS, **metric_tasks.TASKS, **model_tasks.TASKS})
