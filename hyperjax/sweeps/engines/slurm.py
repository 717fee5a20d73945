"""Submits the points to Slurm as an array of jobs, by submitit.

A job that is preempted, or at the end of its time, stops its run, which saves,
and is put into the queue again. The folder of the sweep must be one that all
machines see. Points of a space with ranges are drawn at random.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

from hyperjax.errors import UserError
from hyperjax.sweeps import point, records
from hyperjax.sweeps.sweep import Sweep
from hyperjax.training.progress import say

# Of submitit's own names; what else is given is an option of sbatch.
SHARED = (
  *('name', 'timeout_min', 'mem_gb', 'nodes', 'cpus_per_task'),
  *('gpus_per_node', 'tasks_per_node', 'stderr_to_stdout'),
)
DEFAULTS = {'name': 'hyperjax', 'timeout_min': 24 * 60}
MAX_TIMEOUTS = 100  # of a job that goes on each time
PATIENCE = 60.0  # seconds that an orphan may take to save
POLL_SECONDS = 2.0


def build(
  *,
  slurm: Sequence[str] = (),
  slurm_cluster: str = 'slurm',
  wait: bool = False,
) -> Callable[[Sweep], None]:
  """The engine.

  Args:
    slurm: NAME=VALUE of submitit or sbatch, such as 'partition=gpu'.
    slurm_cluster: 'slurm', or 'local' for jobs on this machine.
    wait: whether to wait for the jobs.

  Raises:
    UserError: submitit is not installed, or an option is none.
  """
  try:
    import submitit  # noqa: F401
  except ImportError as error:
    raise UserError(
      f"--engine=slurm: {error}; pip install 'hyperjax[slurm]'"
    ) from error
  options = dict(DEFAULTS)
  for word in slurm:
    name, equals, value = word.partition('=')
    if not (name and equals):
      raise UserError(f"--slurm: '{word}' is not NAME=VALUE")
    key = name if name in SHARED else f'slurm_{name}'
    options[key] = int(value) if value.isdigit() else value
  return functools.partial(
    _run, options=options, cluster=slurm_cluster, wait=wait
  )


class Job:
  """What a job of the array does.

  Args:
    sweep: of its point.
  """

  def __init__(self, sweep: Sweep):
    self._sweep, self._child = sweep, None

  def __call__(self, number: int) -> None:
    """Runs a point, unless it has ended or another process runs it."""
    deadline = time.monotonic() + PATIENCE
    while not (claim := self._sweep.claim(number)):
      if time.monotonic() > deadline:
        say(f'point {number}: another process runs it')
        return
      time.sleep(POLL_SECONDS)
    with claim:
      if records.read(self._sweep, number):
        say(f'point {number} has ended already')
        return
      self._child = point.begin(self._sweep, number, claim)
      try:
        while self._child.running():
          time.sleep(point.POLL_SECONDS)
      finally:
        self._child.stop()
      point.end(self._sweep, number, self._child, engine='slurm')

  def checkpoint(self, number: int) -> Any:
    """Stops the run, which saves; returns what goes into the queue again."""
    import submitit

    if self._child:
      self._child.stop()

    return submitit.helpers.DelayedSubmission(Job(self._sweep), number)


def _run(sweep: Sweep, *, options, cluster, wait):
  import submitit

  folder = sweep.folder / 'slurm'
  left = records.unfinished(sweep)
  if not left:
    return
  try:
    executor = submitit.AutoExecutor(
      folder=folder, cluster=cluster, slurm_max_num_timeout=MAX_TIMEOUTS
    )
    executor.update_parameters(**options)
    jobs = executor.map_array(Job(sweep), left)
  except Exception as error:  # of submitit, or what sbatch answers
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise UserError(f'--engine=slurm: {reason}') from error
  for number, job in zip(left, jobs, strict=True):
    say(f'point {number} is job {job.job_id}')
  say(
    f"logs: {folder}; look on with 'squeue --me'; when the jobs have ended, "
    f'the same command shows the results'
  )
  while wait and not all(job.done() for job in jobs):
    time.sleep(POLL_SECONDS)
