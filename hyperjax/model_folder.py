"""A run's best model as a small folder, for people without the run or data.

  model.safetensors  the arrays: a parameter by its path, `cells/0/bias` say, as
                     `--mode=describe` has it; what the model keeps besides,
                     running averages say, by its path behind `state:`
  config.json        the run's config
  data.json          the data's meta: alphabet, classes, moments, word pieces
  result.json        which step of which seed this is, what the run measured,
                     the environment it ran in, and the sha256 of the first
                     and the third of these
  README.md          the model card

`load` executes nothing out of a folder. The modules that its config names are
those of hyperjax, unless it is told to import others. Config, command and the
data's name are as in the run, with the paths of the machine it ran on.
"""

import collections
import contextlib
import hashlib
import os
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from ml_collections import ConfigDict

from hyperjax import by_name, model_card, parts, run
from hyperjax import workdir as files
from hyperjax.config import restore
from hyperjax.errors import UserError, did_you_mean
from hyperjax.training.writers import read_metrics
from hyperjax.types import Drawing, Task, Variables

ARRAYS = 'model.safetensors'
CONFIG, DATA, RESULT = 'config.json', 'data.json', 'result.json'
CARD = 'README.md'
STATE = 'state:'  # begins no path: those are names and places in lists


def save(
  workdir: str | pathlib.Path,
  folder: str | pathlib.Path,
  seed: int | None = None,
) -> list[pathlib.Path]:
  """Writes the best model of a run, whole or not at all.

  A run that is not finished may be written too; its card says so, and has the
  quick evaluation of the step.

  Args:
    workdir: of a run that has evaluated at least once.
    folder: to make; it may exist if it is empty.
    seed: one of the run's seeds; None takes the first.

  Returns:
    The files.

  Raises:
    UserError: there is no such run or seed, its checkpoints are damaged, the
      folder is not empty, or the task can not `merge` its model.
  """
  workdir = pathlib.Path(workdir).expanduser()
  folder = pathlib.Path(folder).expanduser().absolute()
  if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
    raise UserError(f'{folder} exists and is no empty folder; name a new one')
  config = files.read_config(workdir)
  task, variables, meta, seed, step = run.best(workdir, seed)
  if not hasattr(task, 'merge'):
    raise UserError(
      f'config.task.name: {config.task.name} has no method merge, so there '
      f'would be no model to load'
    )
  partial = folder.with_name(f'.{folder.name}.partial-{os.getpid()}')
  try:
    partial.mkdir(parents=True)
    _save_arrays(partial / ARRAYS, variables)
    files.write_json(partial / CONFIG, files.config_json(config))
    files.write_json(partial / DATA, meta)
    record = {
      'seed': seed,
      'step': step,
      'num_steps': config.train.num_steps,
      'parameters': parts.count(variables.params),
      'data': meta['name'],
      **_measured(workdir, config, seed, step),
      'environment': files.read_json(workdir / 'environment.json', 'command'),
      'sha256': digests(partial),
    }
    files.write_json(partial / RESULT, record)
    card = model_card.write(
      config.to_dict(),
      record,
      name=folder.name,
      foreign=_names_foreign_modules(config),
      samples=hasattr(task, 'sample'),
    )
    (partial / CARD).write_text(card, encoding='utf-8')
    partial.rename(folder)
  except OSError as error:
    raise UserError(f'{folder} can not be written: {error}') from error
  finally:
    shutil.rmtree(partial, ignore_errors=True)
  return sorted(folder.iterdir())


def load(
  folder: str | pathlib.Path, *, allow_imports: bool = False
) -> tuple[Any, dict[str, Any]]:
  """The model of a folder as a Flax module, and the data's `meta`.

  Args:
    folder: that `save` has written.
    allow_imports: whether modules that its config names and hyperjax does not
      have are imported, which runs them: say so of your own folders alone.

  Raises:
    UserError: it is no such folder, a file of it is damaged, its arrays are
      not those of the model that its config describes, or the config names a
      module that is not of hyperjax.
  """
  task, variables, meta, _ = _read(pathlib.Path(folder), allow_imports)
  return task.merge(variables), meta


def sample(
  folder: str | pathlib.Path, *, allow_imports: bool = False, **request: Any
) -> str | Drawing:
  """What the model of a folder generates.

  Args:
    folder: that `save` has written.
    allow_imports: see `load`.
    **request: fields of `config.sample`, in place of the folder's own.

  Returns:
    A text, or what has a method `draw(folder, name)`.

  Raises:
    UserError: see `load`; or the task can not sample, or not as it is asked.
  """
  task, variables, meta, config = _read(pathlib.Path(folder), allow_imports)
  if not hasattr(task, 'sample'):
    raise UserError(f'config.task.name: {config.task.name} can not sample')
  for name in request:
    if name not in config.sample:
      raise UserError(
        f'no field config.sample.{name}{did_you_mean(name, config.sample)}'
      )
  try:
    return task.sample(variables, config.sample.to_dict() | request, meta)
  except (KeyError, TypeError, ValueError) as error:  # of fields and meta
    reason = f'{type(error).__name__}: {error}'.split('\n')[0]
    raise UserError(
      f'{folder}: can not sample as its {CONFIG} and {DATA} say ({reason})'
    ) from error


def _measured(workdir, config, seed, step):
  """What is known of a seed's step, and whether its run is finished.

  A run's result is of one step of each seed. If that step's checkpoint was
  lost, or the run has gone on and found a better one, it is not this step.
  """
  path = workdir / 'result.json'
  result = files.read_json(path, 'step', 'best_step') if path.exists() else None
  known = {'finished': False, 'result': None}
  if result:
    known['finished'] = result['step'] >= config.train.num_steps
    prefix = f'seed_{seed}/' if config.num_seeds > 1 else ''
    if result.get(f'{prefix}best_step') == step:
      known['result'] = result
  lines = [known['result']] if known['result'] else read_metrics(workdir)
  metrics = {}
  for line in lines:
    if line is known['result'] or line['step'] == step:
      metrics |= _metrics_of(line, seed, config.num_seeds > 1)
  return known | {'metrics': metrics}


def _metrics_of(line, seed, several):
  """The evaluations of one seed in a result, or a line of `metrics.jsonl`."""
  prefix = f'seed_{seed}/' if several else ''
  return {
    name.removeprefix(prefix): value
    for name, value in line.items()
    if isinstance(value, float)
    and (
      name.startswith((f'{prefix}valid', f'{prefix}test', 'reference/'))
      and '/' in name.removeprefix(prefix)
    )
  }


def _names_foreign_modules(config):
  try:
    with by_name.own_alone():
      parts.build_task(config)
  except by_name.ForeignModuleError:
    return True
  return False


def _save_arrays(path, variables):
  arrays = {
    name: np.asarray(leaf, order='C')
    for name, leaf in zip(
      _names(variables), jax.tree.leaves(variables), strict=True
    )
  }
  # Not `save_file`, whose file is its owner's alone to read.
  path.write_bytes(safetensors.numpy.save(arrays))


def _names(variables: Variables) -> list[str]:
  """The name of each leaf, in the order of `jax.tree.leaves`."""
  names = [
    prefix + jax.tree_util.keystr(path, simple=True, separator='/')
    for prefix, tree in (('', variables.params), (STATE, variables.state))
    for path, _ in jax.tree_util.tree_leaves_with_path(tree)
  ]
  for name, count in collections.Counter(names).items():
    if count > 1:
      raise UserError(f"{count} parameters have the name '{name}'; rename them")
  return names


def digests(folder: pathlib.Path) -> dict[str, str]:
  """The sha256 of the files whose content nothing else vouches for."""
  found = {}
  for name in (ARRAYS, DATA):
    with (folder / name).open('rb') as file:
      found[name] = hashlib.file_digest(file, 'sha256').hexdigest()
  return found


def _read(
  folder: pathlib.Path, allow_imports: bool
) -> tuple[Task, Variables, dict[str, Any], ConfigDict]:
  folder = folder.expanduser()
  missing = [
    name
    for name in (ARRAYS, CONFIG, DATA, RESULT)
    if not (folder / name).is_file()
  ]
  if missing:
    raise UserError(
      f'{folder} is no exported model: it has no {", ".join(missing)}'
    )
  task, shapes, config = _build(folder / CONFIG, allow_imports)
  variables = _load_arrays(folder / ARRAYS, shapes)
  expected = files.read_json(folder / RESULT, 'sha256')['sha256']
  found = digests(folder)
  # Folders of earlier versions have the first alone.
  if expected not in (found, {ARRAYS: found[ARRAYS]}):
    intact = isinstance(expected, dict) and (
      expected.get(ARRAYS) == found[ARRAYS]
    )
    raise UserError(
      f'{folder / (DATA if intact else ARRAYS)} is not what was exported: its '
      f'sha256 is not that of {RESULT}; copy the folder again'
    )
  return task, variables, files.read_json(folder / DATA), config


def _build(path, allow_imports):
  """The task of a config file, and its variables as shapes."""
  keys = 'model', 'task', 'data', 'train', 'eval'
  config = restore(files.read_json(path, *keys), path)
  guard = contextlib.nullcontext() if allow_imports else by_name.own_alone()
  try:
    with guard:
      task = parts.build_task(config)
      return task, parts.shapes_of(task), config
  except by_name.ForeignModuleError as error:
    raise UserError(
      f'{path}: {error}; allow_imports=True imports it, if you trust the '
      f'folder and have that module'
    ) from error
  except UserError as error:
    raise UserError(f'{path}: {error}') from error
  except Exception as error:  # whatever a module raises at an odd option
    line = f'{type(error).__name__}: {error}'.split('\n')[0][:120]
    raise UserError(f'{path} describes no model: {line}') from error


def _load_arrays(path, shapes):
  """The arrays of a file, checked against the shapes of a model."""
  try:
    found = safetensors.numpy.load_file(path)
  except (
    safetensors.SafetensorError,
    *(AttributeError, OSError, TypeError, ValueError),  # of types NumPy lacks
  ) as error:
    line = str(error).split('\n')[0][:120]
    raise UserError(
      f'{path} is damaged: {line}; copy the folder again'
    ) from error
  names = _names(shapes)
  for name in names:
    if name not in found:
      raise UserError(f"{path}: '{name}' is missing, of the model of {CONFIG}")
  for name in found:
    if name not in names:
      raise UserError(f"{path}: the model of {CONFIG} has no '{name}'")
  leaves, tree = jax.tree.flatten(shapes)
  for name, leaf in zip(names, leaves, strict=True):
    is_one, needed = _in_words(found[name]), _in_words(leaf)
    if is_one != needed:
      raise UserError(
        f"{path}: '{name}' is {is_one}, but the model of {CONFIG} needs "
        f'{needed}'
      )
  return jax.tree.unflatten(tree, [jnp.array(found[name]) for name in names])


def _in_words(array):
  return f'{array.dtype} {list(array.shape)}'
