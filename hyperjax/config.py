"""The fields that every run has, arguments of config files, and checks."""

import math
import os
import runpy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from hyperjax.errors import UserError, did_you_mean

DTYPES = ('float32', 'bfloat16')
WHOLE = (
  'seed',
  'num_seeds',
  'parameter_budget',
  'accumulate_steps',
  'max_restarts',
  'mesh.data',
  'mesh.model',
)


def base_config() -> ConfigDict:
  """What all runs share; a config file adds `data`, `model` and the rest."""
  return ConfigDict(
    {
      'seed': 0,
      'num_seeds': 1,  # seed, seed + 1, ... side by side in one program
      'dtype': 'float32',  # of products: float32, bfloat16
      'task': {'name': ''},
      'data': {'name': '', 'batch_size': 128},
      'model': {
        'name': '',
        'parameter_budget': 0,  # finds hidden_size; 0 takes it as it is
      },
      'optimizer': {
        'name': 'adam',  # adam, adamw, sgd
        'learning_rate': 1e-3,
        'schedule': 'constant',  # constant, linear, cosine: the latter two to 0
        'warmup_steps': 0,
        'clip_norm': 1.0,  # of the global norm; 0 for none
        'clip_value': 0.0,  # of each element; 0 for none
        'weight_decay': 0.0,  # adamw alone
      },
      'train': {
        'num_steps': 10_000,
        'eval_every': 1_000,
        'checkpoint_every': 1_000,
        'log_every': 100,
        'steps_per_dispatch': 100,  # at the most; only as many as take a moment
        'accumulate_steps': 1,  # parts of a batch, one after the other
        'stall_seconds': 600.0,  # to wait for other hosts; 0: for ever
        'max_restarts': 0,  # after divergence, from the newest checkpoint
        'restart_factor': 0.5,  # of the learning rate, from there on
      },
      'mesh': {
        'data': 0,  # devices to deal a batch out to; 0 is all there are
        'model': 1,  # devices to split parameters over, as these rules say
        'rules': (('*/kernel', ('model',)),),  # (paths, axes of the last dims)
      },
      'eval': {
        'num_streams': 1,  # rows side by side in the reported evaluation
        'quick_streams': 128,  # the same in evaluations during training
        'split': 'test',  # of --mode=evaluate
        'step': 0,  # a checkpoint's step; 0 is the best one on validation
        'dynamic_learning_rate': 0.0,  # above 0 adds dynamic evaluation
        'implausible_below': 0.0,  # a lower test result is refused; 0: none is
      },
      'sample': {'seed': 0},
    }
  )


def language_model_config() -> ConfigDict:
  """`base_config` with the fields of `tasks/language_model.py`."""
  config = base_config()
  config.task.name = 'language_model'
  config.data.update({'sequence_length': 100, 'vocab_size': 256})
  _add_recurrent(config)
  config.model.update({'name': 'char_lm', 'input_keep_prob': 1.0})
  config.sample.update(
    {
      'prompt': '\n',
      'length': 500,
      'temperature': 1.0,  # 0 takes the most probable symbol each time
      'top_k': 0,  # 0 draws from all symbols
    }
  )
  return config


def handwriting_config() -> ConfigDict:
  """`base_config` with the fields of `tasks/handwriting.py`."""
  config = base_config()
  config.task.name = 'handwriting'
  config.data.update(
    {
      'min_points': 300,  # shorter lines are left out
      'scale_range': 0.0,  # training lines are stretched by 1 +- this
      'alphabet': '',  # characters that it may be told to write
    }
  )
  _add_recurrent(config)
  config.model.update(
    {
      'name': 'handwriting',
      'num_mixtures': 20,
      'num_windows': 0,  # Gaussians that read the text; 10 with an alphabet
    }
  )
  config.eval.split = 'valid'
  config.sample.update(
    {
      'text': '',  # of a model that reads
      'num_lines': 4,
      'length': 700,  # points of a line, at the most
      'bias': 0.0,  # more makes it neater
      'style': '',  # JSON file with a line to go on from
      'style_line': 0,
      'animated': False,  # draws an SVG that writes itself, too
    }
  )
  return config


def translation_config() -> ConfigDict:
  """`base_config` with the fields of `tasks/translation.py`."""
  config = base_config()
  config.task.update({'name': 'translation', 'label_smoothing': 0.0})
  config.data.update(
    {
      'batch_size': 8,  # sentences of a batch are a multiple of this
      'tokens_per_batch': 2_048,  # pieces of the longer side, with padding
      'vocab_size': 4_000,  # word pieces, of both languages
      'pieces': '',  # file of a sentencepiece model; else one is trained
      'max_length': 100,  # pieces; longer pairs are not trained on
      'num_buckets': 6,  # shapes of batches, by length
    }
  )
  _add_recurrent(config)
  config.model.update(
    {
      'name': 'seq2seq',
      'embedding_size': 256,
      'attention_size': 256,
      'num_encoder_layers': 1,
      'input_keep_prob': 1.0,
    }
  )
  config.sample.update(
    {
      'path': '',  # a file to translate, a sentence a line; - is standard input
      'text': '',  # translated where there is no path
      'beam_size': 5,
      'length_penalty': 0.2,  # alpha and beta of Wu et al. 2016
      'coverage_penalty': 0.2,
      'batch_size': 64,  # sentences side by side
      'attention': False,  # draws it
    }
  )
  return config


def _add_recurrent(config):
  """Adds the fields of `models/recurrent.py`."""
  config.model.update(
    {
      'cell': 'lstm',  # [ln_][hyper_]lstm, [ln_][hyper_]rnn
      'hidden_size': 1000,
      'num_layers': 1,
      'hyper_size': 128,  # read by hyper cells alone
      'z_size': 4,  # N_z; read by hyper cells alone
      'hyper_cell': '',  # rnn, lstm; empty: rnn in hyper_rnn, lstm else
      'generation': 'row_scaling',  # full: whole weight matrices (Eq. 5)
      'recurrent_keep_prob': 1.0,
      'hyper_recurrent_keep_prob': 1.0,
      'zoneout_c': 0.0,
      'zoneout_h': 0.0,
      'output_keep_prob': 1.0,
    }
  )
  config.unroll = ConfigDict(
    {
      'remat': 'elementwise',  # computed anew going back: nothing, step
      'defer': True,  # weight gradients outside the backward loop
      'kernels': 'auto',  # fused on one NVIDIA GPU; xla, fused, pallas
    }
  )


def classification_config() -> ConfigDict:
  """`base_config` with the fields of `tasks/image_classification.py`."""
  config = base_config()
  config.task.update({'name': 'image_classification', 'l2': 0.0})
  config.data.update(
    {
      'dir': '',
      'image_shape': (32, 32, 3),
      'num_classes': 10,
      'num_valid': 5_000,  # taken from the training images
      'pad': 0,  # pixels a side, before a random crop
      'flip': False,
      'normalize': 'unit',  # standard: mean 0, deviation 1 by channel
    }
  )
  config.optimizer.clip_norm = 0.0
  config.eval.update({'num_streams': 1_000, 'quick_streams': 1_000})
  return config


def parse_argument(
  argument: str, rows: Iterable[str], options: Iterable[str] = ()
) -> tuple[str, set[str]]:
  """Parses what follows the colon: `--config=configs/ptb.py:ROW,option`.

  Args:
    argument: the text after the colon; may be empty.
    rows: names of the file's variants; the first is the default.
    options: words that may follow, or stand without a row.

  Returns:
    The row, and the set of options that were named.
  """
  rows, options = list(rows), list(options)
  row, chosen = None, set()
  for word in filter(None, argument.split(',')):
    if word in options:
      chosen.add(word)
    elif word in rows and row is None:
      row = word
    elif word in rows:
      raise UserError(f"--config: two rows, '{row}' and '{word}'; give one")
    else:
      raise UserError(
        f"--config: no row or option '{word}'"
        f'{did_you_mean(word, rows + options)}'
      )
  return row or rows[0], chosen


def parse_budget(argument: str) -> tuple[str, float]:
  """Takes `budget=SHARE` out of what follows the colon.

  Returns:
    The rest, for `parse_argument`, and the share; 1 where none is given.
  """
  words = argument.split(',')
  found = [word for word in words if word.startswith('budget=')]
  if not found:
    return argument, 1.0
  try:
    (value,) = (float(word.partition('=')[2]) for word in found)
  except ValueError:
    value = math.nan
  if not 0 < value < math.inf:
    raise UserError(
      f"--config: '{','.join(found)}' must be one budget above 0, such as "
      f'budget=0.1'
    )
  return ','.join(word for word in words if word not in found), value


def scale_steps(config: ConfigDict, budget: float) -> None:
  """Takes a share of a run's steps, with its schedule; at least a step."""

  def scaled(steps):
    return max(1, round(budget * steps))

  config.train.num_steps = scaled(config.train.num_steps)
  if config.optimizer.warmup_steps:
    config.optimizer.warmup_steps = round(
      budget * config.optimizer.warmup_steps
    )
  if 'boundaries' in config.optimizer:
    config.optimizer.boundaries = tuple(
      scaled(step) for step in config.optimizer.boundaries
    )


def take_spec(argv: Sequence[str]) -> tuple[str | None, list[str]]:
  """Takes `--config=SPEC` or `--config SPEC` out of a command line."""
  rest = list(argv)
  for place, word in enumerate(argv):
    flag, equals, value = word.partition('=')
    if flag in ('--config', '-config'):
      if not equals:
        value = rest.pop(place + 1) if place + 1 < len(argv) else ''
      del rest[place]
      return value, rest
  return None, rest


def load(spec: str) -> ConfigDict:
  """Calls `get_config` of a config file.

  Args:
    spec: FILE.py or FILE.py:ARGUMENT.

  Raises:
    UserError: there is no such file, or it does not give a config.
  """
  path, colon, argument = spec.partition(':')
  if not os.path.isfile(path):
    folder = os.path.dirname(path)
    folder = folder if os.path.isdir(folder) else 'configs'
    files = os.listdir(folder) if os.path.isdir(folder) else []
    known = [os.path.join(folder, f) for f in files if f.endswith('.py')]
    raise UserError(f"--config: no file '{path}'{did_you_mean(path, known)}")
  try:
    get_config = load_module(path)['get_config']
    config = get_config(argument) if colon else get_config()
  except UserError:
    raise
  except Exception as error:  # whatever the user's file raises
    reason = f'{type(error).__name__}: {error}'.split('\n')[0]
    raise UserError(f'{path}: can not be loaded: {reason}') from error
  if not isinstance(config, ConfigDict):
    raise UserError(f'{path}: get_config does not return a ConfigDict')
  return config


def load_module(path: str | os.PathLike) -> dict[str, Any]:
  """Runs a Python file and returns its names."""
  return runpy.run_path(os.fspath(path))


def check_overrides(config: ConfigDict, argv: Sequence[str]) -> None:
  """Raises `UserError` at the first `--config.FIELD` that does not exist."""
  known = [f'config.{path}' for path, _ in flatten(config)]
  for word in argv:
    field = word.lstrip('-').partition('=')[0]
    if word.startswith('-') and field.startswith('config.'):
      sections = tuple(path for path in known if path.startswith(f'{field}.'))
      if sections:
        raise UserError(f'{field} is a section; set its fields')
      if field not in known:
        raise UserError(f'no field {field}{did_you_mean(field, known)}')


def validate(config: ConfigDict) -> None:
  """Checks the values that have a range, by the names of their fields.

  Raises:
    UserError: names the first field that is out of its range.
  """
  _check_sections(config)
  if config.dtype not in DTYPES:
    raise UserError(
      f"config.dtype is '{config.dtype}'; it must be {' or '.join(DTYPES)}"
    )
  for path, value in flatten(config):
    name = path.rsplit('.', 1)[-1]
    if {name, path} & set(WHOLE) and type(value) is not int:
      raise UserError(f'config.{path} is {value!r}; it must be a whole number')
    rule = _rule(path if path.startswith('mesh.') else name)
    if rule and isinstance(value, (int, float)):
      holds, words = rule
      # A whole number may be too large for a float.
      if not (-math.inf < value < math.inf and holds(value)):
        raise UserError(f'config.{path} is {value}; it must be {words}')
  if config.seed + config.num_seeds > 2**32:
    raise UserError(
      f'config.seed {config.seed} and config.num_seeds {config.num_seeds} go '
      f'beyond the largest seed, 4294967295; make one of them smaller'
    )
  if config.train.max_restarts and config.num_seeds > 1:
    raise UserError(
      f'config.train.max_restarts is {config.train.max_restarts}, but of '
      f'{config.num_seeds} seeds (config.num_seeds) one that diverges is left '
      f'behind; set one of the two to its default'
    )


def _check_sections(config):
  """The sections that are no arguments of a `build` have known fields."""
  base = base_config()
  for section in ('unroll', 'sample'):
    if not isinstance(config.get(section, ConfigDict()), ConfigDict):
      raise UserError(f'config.{section} is not a section')
  for section in base:
    if section not in config:
      raise UserError(f'config.{section} is missing')
    if not isinstance(base[section], ConfigDict):
      if isinstance(config[section], ConfigDict):
        raise UserError(f'config.{section} is a section; give a value')
      continue
    if not isinstance(config[section], ConfigDict):
      raise UserError(f'config.{section} is not a section')
    if section in ('train', 'eval', 'mesh'):
      known = base[section]
      for name in [*known, *config[section]]:
        if name not in known:
          raise UserError(
            f'no field config.{section}.{name}{did_you_mean(name, known)}'
          )
        if name not in config[section]:
          raise UserError(f'config.{section}.{name} is missing')
        value, like = config[section][name], known[name]
        kinds = (tuple, list) if name == 'rules' else (type(like), int)
        if not isinstance(value, kinds):
          raise UserError(
            f'config.{section}.{name}: {value!r} is not of type '
            f'{type(like).__name__}'
          )
    elif 'name' in base[section] and 'name' not in config[section]:
      raise UserError(f'config.{section}.name is missing')
    elif 'name' in base[section] and not isinstance(config[section].name, str):
      raise UserError(
        f'config.{section}.name: {config[section].name!r} is not of type str'
      )


def complete(config: ConfigDict) -> ConfigDict:
  """A stored config, with the defaults of fields that are newer than it."""
  full = config.copy_and_resolve_references()
  for section in ('train', 'eval', 'mesh'):
    known = base_config()[section]
    known.update(full.get(section, {}))
    full[section] = known
  return full


def restore(stored: Mapping[str, Any], origin: str | os.PathLike) -> ConfigDict:
  """`complete` of what a file of a run holds.

  Args:
    stored: the object of the file.
    origin: of it, for messages.

  Raises:
    UserError: it is no config.
  """
  try:
    return complete(ConfigDict(stored))
  # What ConfigDict raises at a list for a section, a field called `items`, ...
  except (
    *(AttributeError, TypeError, ValueError, OverflowError, RecursionError),
  ) as error:
    reason = str(error).split('\n')[0]
    raise UserError(f'{origin} is damaged: no config ({reason})') from error


def _rule(name):
  """(predicate, words) for a field's name, or None."""
  if name.endswith(
    ('_size', '_length', '_every', '_streams', '_dispatch', '_mixtures')
  ):
    return lambda x: 1 <= x < 2**31, 'at least 1 and below 2147483648'
  if name in ('num_layers', 'num_encoder_layers', 'depth'):
    # They are built one by one, also of a config that somebody else wrote.
    return lambda x: 1 <= x <= 1_000, 'at least 1 and at most 1000'
  if name in (
    *('length', 'num_steps', 'num_seeds', 'num_lines'),
    *('num_buckets', 'tokens_per_batch'),
    *('accumulate_steps', 'mesh.model'),
  ):
    return lambda x: x >= 1, 'at least 1'
  if name.endswith('keep_prob'):
    return lambda x: 0 < x <= 1, 'above 0 and at most 1'
  if name == 'restart_factor':
    return lambda x: 0 < x < 1, 'above 0 and below 1'
  if name.startswith('zoneout_'):
    return lambda x: 0 <= x < 1, 'at least 0 and below 1'
  if name == 'learning_rate':
    return lambda x: x > 0, 'above 0'
  if name == 'seed':
    return lambda x: 0 <= x < 2**32, 'from 0 to 4294967295'
  nonnegative = {
    'warmup_steps',
    'clip_norm',
    'clip_value',
    'weight_decay',
    'implausible_below',
    'step',
    'temperature',
    'top_k',
    'parameter_budget',
    'dynamic_learning_rate',
    'l2',
    'pad',
    'bias',
    'style_line',
    'num_windows',
    'length_penalty',
    'coverage_penalty',
    'stall_seconds',
    'max_restarts',
    'mesh.data',
  }
  if name in nonnegative:
    return lambda x: x >= 0, 'at least 0'
  return None


def flatten(config: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Yields (dotted path, value) for every field."""
  for key in sorted(config):
    value = config[key]
    if isinstance(value, (ConfigDict, dict)):
      yield from flatten(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value
