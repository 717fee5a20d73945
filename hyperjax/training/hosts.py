"""Several processes that train as one, most often one on each host.

Every process runs the same program on its own devices, and what concerns all
is decided together. With a single process all of this does nothing.
"""

import contextlib
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from hyperjax.errors import LostHostError, UserError
from hyperjax.training import progress
from hyperjax.types import PyTree

T = TypeVar('T')
MESSAGE_BYTES = 2048  # of an error that goes round
SECONDS_TO_LEAVE = 10.0
SECONDS_TO_END = 0.5  # of a process that has nothing more to do
HEARTBEAT_SECONDS = 60  # without a sign of life, after which one is gone
# What tells on which of how many processes of one job this is.
LAUNCHERS = {
  'Slurm': ('SLURM_STEP_NUM_TASKS', 'SLURM_PROCID'),
  'Open MPI': ('OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK'),
}
# What jax, gloo, NCCL and orbax say when a process has gone.
SIGNS_OF_LOSS = (
  'gloo',
  'nccl',
  'unavailable',
  'deadline',
  'coordination',
  'heartbeat',
  'connection',
  'barrier',
)


def join(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  *,
  detect: bool = False,
) -> None:
  """Finds the other processes of this run, if there are any.

  To be called before anything else asks jax for devices. Slurm (srun), Open MPI
  and TPU slices tell all three by themselves.

  Args:
    coordinator: HOST:PORT of process 0, which the others can reach.
    num_processes: how many there are.
    process_id: this one's number.
    detect: asks jax to find them where no launcher is seen: on a TPU slice.

  Raises:
    UserError: they are not found.
  """
  given = coordinator, num_processes, process_id
  launched = _launched()
  if given == (None, None, None) and not detect and not launched:
    return
  if coordinator and launched:
    num_processes = launched[0] if num_processes is None else num_processes
    process_id = launched[1] if process_id is None else process_id
  # Signals are heard by `loop.Interruption`, and not by a thread of XLA's.
  jax.config.update('jax_enable_preemption_service', False)
  # Without it a process is aborted, by a log line in C++, when another dies.
  jax.config.update('jax_enable_recoverability', True)
  try:
    jax.distributed.initialize(
      coordinator,
      num_processes,
      process_id,
      heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )
  except (ValueError, TypeError, RuntimeError) as error:
    reason = str(error).strip().split('\n')[0]
    raise UserError(
      f'the processes of this run do not find each other ({reason}); give '
      f'--coordinator=HOST:PORT, --num_processes and --process_id'
    ) from error
  if not is_primary():
    progress.mute()
    logging.getLogger('hyperjax').setLevel(logging.WARNING)


def _launched() -> tuple[int, int] | None:
  """(how many processes, which one) by a launcher's environment."""
  for count, number in LAUNCHERS.values():
    if int(os.environ.get(count, '1')) > 1 and number in os.environ:
      return int(os.environ[count]), int(os.environ[number])
  return None


def count() -> int:
  """How many processes train together."""
  # jax.process_count() would start the accelerator of a command without one.
  return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
  """Which of them this is."""
  return jax.process_index() if jax.distributed.is_initialized() else 0


def is_primary() -> bool:
  """Whether this process writes the files and says what happens."""
  return index() == 0


def gather(numbers: Sequence[int]) -> np.ndarray:
  """A few int32 of every process: [P, n]."""
  numbers = np.asarray(numbers, np.int32)
  if count() == 1:
    return numbers[None]
  return np.asarray(multihost_utils.process_allgather(numbers))


def fetch(array: jax.Array) -> np.ndarray:
  """A whole array on this host, wherever its parts are."""
  if isinstance(array, jax.Array) and not (
    array.is_fully_addressable or array.is_fully_replicated
  ):
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
  return np.asarray(array)


def fetch_all(tree: PyTree) -> PyTree:
  """A tree of arrays on one device, that this process can use alone.

  In one process of several devices too: small steps are slower on all of them,
  and simulated ones may wait for each other for ever.
  """
  return jax.tree.map(lambda x: jnp.asarray(fetch(x)), tree)


@contextlib.contextmanager
def shared_fate() -> Iterator[None]:
  """An error that a user can mend in one process is raised in all of them.

  Else the others would wait for it. What is inside must not itself wait for
  other processes.
  """
  error = None
  try:
    yield
  except UserError as own:
    error = own
  if count() == 1:
    if error:
      raise error
    return
  text = str(error).encode()[:MESSAGE_BYTES] if error else b''
  said = gather(list(text.ljust(MESSAGE_BYTES, b'\0'))).astype(np.uint8)
  if error:
    raise error
  for number, line in enumerate(said):
    if message := bytes(line).rstrip(b'\0').decode(errors='replace'):
      raise UserError(f'process {number}: {message}')


def primary_first(function: Callable[[], T]) -> T:
  """Calls it in process 0, and then in the others: it may prepare files."""
  result = None
  with shared_fate():
    if is_primary():
      result = function()
  with shared_fate():
    if not is_primary():
      result = function()
  return result


def check_same(what: str, digest: bytes) -> None:
  """Checks that all processes have the same, by its digest.

  Raises:
    UserError: one has not.
  """
  digests = gather(list(digest))
  for number, other in enumerate(digests):
    if (other != digests[0]).any():
      raise UserError(
        f'processes 0 and {number} of this run differ in {what}; start all of '
        f'them by the same command, on the same data'
      )


def is_loss(error: BaseException | None) -> bool:
  """Whether it says that another process has gone."""
  text = str(error).lower()
  return count() > 1 and any(sign in text for sign in SIGNS_OF_LOSS)


@contextlib.contextmanager
def losing_none() -> Iterator[None]:
  """Turns what goes wrong when a process is lost into a `LostHostError`."""
  try:
    yield
  except (UserError, KeyboardInterrupt, SystemExit):
    raise
  except Exception as error:
    if not is_loss(error):
      raise
    reason = str(error).strip().split('\n')[0][:200]
    raise LostHostError(
      f'process {index()} of {count()} has lost another one ({reason}); '
      f'{RESUMES}'
    ) from error


RESUMES = (
  'start all of them again by the same command, which goes on from the newest '
  'checkpoint'
)


class Watchdog:
  """Ends this process when it waits for others that are gone, or too long.

  A host that dies, hangs, or is cut off, is not always noticed by what waits
  for it. With one process there is nothing to watch.

  Args:
    seconds: without `alive` after which it ends, or 0; only between `alive`
      and `rest` does it count.
  """

  def __init__(self, seconds: float):
    self._seconds = seconds or math.inf
    self._deadline, self._where = None, ''
    self._closed = threading.Event()

  def __enter__(self) -> 'Watchdog':
    if count() > 1:
      for watch in (self._watch_time, self._watch_others):
        threading.Thread(target=watch, daemon=True).start()
    return self

  def __exit__(self, *_) -> None:
    self._closed.set()

  def alive(self, where: str) -> None:
    """Training has come so far."""
    self._where = where
    self._deadline = time.monotonic() + self._seconds

  def rest(self) -> None:
    """What comes now may take its time."""
    self._deadline = None

  @contextlib.contextmanager
  def over(self, where: str) -> Iterator[None]:
    """What is inside waits for the others, and must end in time."""
    self.alive(where)
    try:
      yield
    finally:
      self.rest()

  def _watch_time(self) -> None:
    while not self._closed.wait(min(1.0, self._seconds / 4)):
      deadline = self._deadline
      if deadline is not None and time.monotonic() > deadline:
        self._end(
          f'has waited {self._seconds:g} s for the others at {self._where} '
          f'(config.train.stall_seconds): one is gone, or hangs'
        )

  def _watch_others(self) -> None:
    client = multihost.get_jax_distributed_client()
    everybody = set(range(count()))
    while not self._closed.wait(1.0):
      try:
        # It waits until all of them ask, or their hearts have ceased to beat.
        gone = everybody - set(client.get_live_nodes(sorted(everybody)))
      except Exception:  # whatever jax raises where its service has gone
        gone = {0}
      if gone and self._deadline is not None:
        numbers = ', '.join(map(str, sorted(gone)))
        self._end(f'has lost process {numbers} at {self._where}')

  def _end(self, what: str) -> None:
    print(
      f'error: process {index()} of {count()} {what}; {RESUMES}',
      file=sys.stderr,
      flush=True,
    )
    # The main thread sits in a collective, which nothing can call back.
    os._exit(LostHostError.exit_code)


def agree(size: int, signum: int) -> tuple[int, int]:
  """What process 0 takes for the size of a dispatch, and anybody's signal."""
  if count() == 1:
    return size, signum
  sizes, signums = gather([size, signum]).T.tolist()
  return sizes[0], max(signums)


def leave(exit_code: int, *, together: bool) -> None:
  """Ends this process, if it is one of several.

  An ordinary end would wait for processes that are gone, or abort where
  process 0 ends first.

  Args:
    exit_code: of the process.
    together: wait a little until the others have come as far.
  """
  if count() == 1:
    return
  if together:
    # No `gather`: the others may be in the midst of another one, which would
    # take these bytes for its own.
    client = multihost.get_jax_distributed_client()
    with contextlib.suppress(Exception):
      client.wait_at_barrier('leave', int(1000 * SECONDS_TO_LEAVE))
      _leave_last(client)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(exit_code)


def _leave_last(client: Any) -> None:
  """Lets all others end before process 0 does.

  It has the service that they are connected to, and without which XLA aborts
  them.
  """
  if not is_primary():
    client.key_value_set(f'left/{index()}', '')  # and then it ends at once
    return
  deadline = time.monotonic() + SECONDS_TO_LEAVE
  for number in range(1, count()):
    seconds = max(0.0, deadline - time.monotonic())
    client.blocking_key_value_get(f'left/{number}', int(1000 * seconds))
  time.sleep(SECONDS_TO_END)


def token() -> bytes:
  """Random bytes of process 0's, the same in all."""
  own: Any = np.frombuffer(os.urandom(8), np.uint8)
  return bytes(gather(own.tolist())[0].astype(np.uint8))
