"""Checkpoints: saved in the background, checked when they are read."""

import hashlib
import json
import logging
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from hyperjax.errors import UserError
from hyperjax.training import hosts
from hyperjax.types import PyTree, TrainState, Variables

logger = logging.getLogger(__name__)

FOLDER = 'checkpoints'


class DamagedError(Exception):
  """A checkpoint that can't be read or is not what was written."""


class _KeepLatestAndBest:
  """Orbax's preservation policy: the newest steps, and the best of each.

  The best as of an older checkpoint is kept too, as long as that one is: if
  the newest is damaged, its best step may be the one that is lost.
  """

  def __init__(self, num_latest: int):
    self.num_latest = num_latest
    self.best_of: dict[int, list[int]] = {}  # checkpoint: best steps as of it

  def should_preserve(self, checkpoints, *, context):
    del context
    steps = [info.step for info in checkpoints]
    latest = set(steps[-self.num_latest :])
    known = latest & self.best_of.keys()
    best = {best_step for step in known for best_step in self.best_of[step]}
    return [step in latest | best for step in steps]


class Checkpointer:
  """The checkpoints of a workdir: the newest ones and the best one.

  Each holds the train state and a record: the length of `metrics.jsonl`, the
  best step so far, and a checksum of every array, since a flipped bit in a
  data file would else be restored without a word. Checkpointing is the last
  thing done at a step, so a restored run has nothing left to do there.

  Args:
    workdir: the run's folder.
    num_latest: how many of the newest are kept, for a damaged one has to be
      followed by the one before it.
    read_only: True never deletes or writes anything.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    *,
    num_latest: int = 2,
    read_only: bool = False,
  ):
    self._folder = workdir.absolute() / FOLDER
    if self._folder.exists() and not self._folder.is_dir():
      raise UserError(f'{self._folder} is not a folder')
    self._policy = _KeepLatestAndBest(num_latest)
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=self._policy,
        read_only=read_only,
        create=not read_only,
      ),
    )

  def save(
    self,
    state: TrainState,
    *,
    metrics_length: int,
    best: list[dict[str, float] | None],
    seconds: float,
    data: Any,
  ) -> None:
    """Begins to save a state; the state may be donated right after.

    Args:
      state: what to save, at `state.step`.
      metrics_length: of `metrics.jsonl`, which a resumed run truncates to.
      best: of each seed `{'step': ..., 'value': ...}` of its best evaluation
        so far, or None.
      seconds: that the run has taken so far.
      data: the data's `meta`, in JSON types; a resumed run must have the same.
    """
    # A copy, for the save goes on in the background while the next dispatch
    # takes the state's buffers.
    model, rest = _parts(jax.tree.map(jnp.copy, state))
    record = {
      'metrics_length': metrics_length,
      'best': list(best),  # a copy: it is written in the background
      'broken': np.asarray(state.broken).tolist(),
      'seconds': seconds,
      'data': data,
      'sha256': _checksums(model) | _checksums(rest),
    }
    step = int(state.step)
    self._policy.best_of[step] = [b['step'] for b in best if b]
    self._manager.save(
      step,
      args=ocp.args.Composite(
        model=ocp.args.StandardSave(model),
        rest=ocp.args.StandardSave(rest),
        record=ocp.args.JsonSave(
          {'content': record, 'sha256': _json_checksum(record)}
        ),
      ),
      force=True,
    )

  def restore_latest(
    self, like: TrainState
  ) -> tuple[TrainState, dict[str, Any]] | None:
    """The newest sound state and its record; None if there is none.

    A damaged checkpoint is named in the log, and removed: the run that goes
    on from an older one will write that step again.

    Args:
      like: a state of the right shapes and shardings (arrays or shapes), those
        of other devices than it was saved from too.
    """
    steps = self.steps()
    for step in reversed(steps):
      try:
        state, record = self._restore(step, like)
      except DamagedError as error:
        logger.warning('checkpoint %d is damaged (%s): skipped', step, error)
        continue
      for later in steps:
        if later > step:
          self._manager.delete(later)
      self._policy.best_of = {
        step: [b['step'] for b in record['best'] if b]
        for step, record in self._records().items()
      }
      return state, record
    if steps:
      raise self._all_damaged(steps)
    return None

  def _all_damaged(self, steps):
    return UserError(
      f'{self._folder}: all checkpoints ({", ".join(map(str, steps))}) are '
      f'damaged; begin again in another workdir'
    )

  def restore_model(self, step: int, like: Variables) -> Variables:
    """The parameters and model state of one step.

    Raises:
      UserError: there is no such step, or it is damaged.
    """
    steps = self.steps()
    if step not in steps:
      known = ', '.join(map(str, steps)) or 'none'
      raise UserError(
        f'config.eval.step: no checkpoint of step {step} in {self._folder}; '
        f'there: {known}'
      )
    try:
      return self._restore_model(step, like)
    except DamagedError as error:
      others = ', '.join(str(other) for other in steps if other != step)
      raise UserError(
        f'{self._folder}: checkpoint {step} is damaged ({error}); others are '
        f'there for --config.eval.step: {others or "none"}'
      ) from error

  def restore_best(
    self, like: Variables, place: int = 0
  ) -> tuple[Variables, int] | None:
    """The variables of a seed's best step (of all seeds), and that step.

    It is the best as of the newest checkpoint. A damaged checkpoint is named
    in the log and skipped for the one before it.

    Args:
      like: variables of the right shapes.
      place: of the seed among the run's seeds.

    Returns:
      None if no step has been evaluated.

    Raises:
      UserError: every checkpoint is damaged.
    """
    steps, records = self.steps(), self._records()
    bests = {
      step: record['best'][place]
      for step, record in records.items()
      if record['best'][place]
    }
    sound = sorted(bests, reverse=True)
    candidates = [bests[step]['step'] for step in sound]
    for step in dict.fromkeys([*candidates, *sound]):
      try:
        return self._restore_model(step, like), step
      except DamagedError as error:
        logger.warning('checkpoint %d is damaged (%s): skipped', step, error)
    if bests or (steps and not records):
      raise self._all_damaged(steps)
    return None

  def record(self, step: int = 0) -> dict[str, Any]:
    """The record of a step; 0 is the newest sound one.

    Raises:
      DamagedError: it is not sound.
    """
    return self._record(step or max(self._records()))

  def _records(self):
    """{step: record} of the checkpoints whose record is sound."""
    records = {}
    for step in self.steps():
      try:
        records[step] = self._record(step)
      except DamagedError as error:
        logger.warning('checkpoint %d is damaged (%s): skipped', step, error)
    return records

  def steps(self) -> list[int]:
    """The steps on disk, in order."""
    return sorted(self._manager.all_steps())

  def wait(self) -> None:
    """Waits for the save under way."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits for the save under way and frees its threads."""
    self.wait()
    self._manager.close()

  def _restore(self, step, like):
    record = self._record(step)
    model_like, rest_like = _parts(like)
    model = self._item(step, 'model', ocp.args.StandardRestore(model_like))
    rest = self._item(step, 'rest', ocp.args.StandardRestore(rest_like))
    _compare(_checksums(model) | _checksums(rest), record['sha256'])
    state = TrainState(
      _put(np.int32(step), like.step),
      model['params'],
      model['state'],
      rest['carry'],
      rest['opt_state'],
      _put(np.asarray(record['broken'], np.int32), like.broken),
    )
    return state, record

  def _restore_model(self, step, like):
    if step not in self.steps():
      raise DamagedError('it is not there')
    record = self._record(step)
    like = {'params': like.params, 'state': like.state}
    model = self._item(step, 'model', ocp.args.StandardRestore(like))
    _compare(_checksums(model), record['sha256'])
    return Variables(model['params'], model['state'])

  def _record(self, step):
    record = self._item(step, 'record', ocp.args.JsonRestore())
    try:
      content, expected = record['content'], record['sha256']
    except (KeyError, TypeError) as error:
      raise DamagedError('its record is not whole') from error
    if _json_checksum(content) != expected:
      raise DamagedError('the checksum of its record differs')
    return content

  def _item(self, step, name, arg):
    try:
      return self._manager.restore(
        step, args=ocp.args.Composite(**{name: arg})
      )[name]
    except Exception as error:  # orbax raises of many kinds on broken files
      if hosts.is_loss(error):
        raise  # the files are as they were
      line = str(error).strip().split('\n')[0][:120]
      raise DamagedError(f'{name} can not be read: {line}') from error


def _parts(state):
  """What an evaluation needs of a state, and what only training needs."""
  model = {'params': state.params, 'state': state.state}
  rest = {'carry': state.carry, 'opt_state': state.opt_state}
  return model, rest


def _put(array, like):
  """What every process knows, as an array that lies as `like` does."""
  if like.sharding is None:
    return jnp.asarray(array)
  return jax.make_array_from_callback(
    array.shape, like.sharding, lambda at: array[at]
  )


def _checksums(tree: PyTree) -> dict[str, str]:
  """The sha256 of each leaf's type, shape and bytes, by path."""
  sums = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    array = hosts.fetch(leaf)
    digest = hashlib.sha256(f'{array.dtype} {array.shape}'.encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    sums[jax.tree_util.keystr(path)] = digest.hexdigest()
  return sums


def _compare(found, expected):
  for path, digest in found.items():
    if digest != expected.get(path):
      raise DamagedError(f'the checksum of {path} differs')


def _json_checksum(record) -> str:
  return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
