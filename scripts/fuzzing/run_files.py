"""What reads configs and the files that runs, sweeps and exports leave."""

import contextlib
import json
import os
import pathlib
import sys
import types

import jax
from absl import flags

from hyperjax import command_line, model_folder, parts
from hyperjax import config as configs
from hyperjax import workdir as files
from hyperjax.errors import UserError
from hyperjax.sweeps import records
from hyperjax.training import writers

from fuzzing import mutations
from fuzzing.targets import (
  Target,
  bytes_in,
  json_or_bytes,
  mutations_of,
)

REPOSITORY = pathlib.Path(__file__).parents[2]
TEXT = REPOSITORY / 'configs' / 'text.py'
FLAG_TOKENS = (
  *(b'lstm', b',', b':', b'=', b'budget=', b'budget=nan', b'--config', b'-'),
  *(b'--config.seed=', b'--config.model=', b'--config.data.path=', b'--x'),
  *(b'(1,', b'((((', b"'", b'[', b'True', b'None', b'1e9', b'lambda: 0'),
  *(b'__import__("os").system("touch /tmp/called")', b'smoke', b'..', b'~'),
)


def _command_line(folder):
  """Words of a command line, a line each."""
  lines = (
    f'--config={TEXT}:ln_lstm\n--config.seed=3\n--config.model.hidden_size=8',
    f'--config={REPOSITORY}/configs/ptb.py:lstm_1000,smoke,budget=0.5',
    f'--config\n{REPOSITORY}/configs/cifar10.py:wrn_40_1\n'
    f'--config.optimizer.learning_rate=1e-3\n'
    f'--config.optimizer.boundaries=(1, 2)\n--config.data.flip=True',
    f'--config={REPOSITORY}/configs/mnist.py:conv,smoke\n'
    f'--config.data.image_shape=(28, 28, 1)',
  )

  def parse(content):
    words = content.decode('utf-8', 'surrogateescape').split('\n')
    known, path = set(flags.FLAGS), list(sys.path)
    try:
      with _quiet():
        command_line.parse_with_config(['main', *words])
      if 'config' in flags.FLAGS and flags.FLAGS['config'].value:
        parts.resolve(flags.FLAGS['config'].value)
    finally:
      sys.path[:] = path
      flags.FLAGS.unparse_flags()
      flags.FLAGS.remove_flag_values(
        [name for name in flags.FLAGS if name not in known]
      )
      flags.FLAGS(['main'])

  seeds = tuple(line.encode() for line in lines)
  return Target(
    mutations_of(*seeds, tokens=FLAG_TOKENS), parse, ('--', 'config', 'flag'), 3
  )


@contextlib.contextmanager
def _quiet():
  with open(os.devnull, 'w') as null, contextlib.redirect_stdout(null):
    yield


def _small_config():
  config = configs.load(f'{TEXT}:ln_lstm')
  config.model.hidden_size = 8
  config.data.path = 'a.txt'
  return config


def _config_json(folder):
  """The config of a run, read, compared and built."""
  config = _small_config()

  def parse(path):
    stored = files.read_config(folder)
    with contextlib.suppress(UserError):
      files.check_config(folder, config)
    task = parts.build_task(stored)
    assert parts.count(parts.shapes_of(task).params) > 0

  return Target(
    json_or_bytes(files.config_json(config)),
    bytes_in(folder, 'config.json', parse),
    (str(folder), 'config.'),
    20,
  )


METRICS = (
  b'{"step": 5, "train/loss": 1.5}\n'
  b'{"step": 10, "train/loss": null, "valid_quick/loss": 1.25}\n'
)


def _metrics(folder):
  def parse(path):
    for line in writers.read_metrics(folder):
      assert isinstance(line['step'], int)
      assert all(
        value is None or isinstance(value, (int, float))
        for value in line.values()
      )

  return Target(
    mutations_of(METRICS, tokens=(b'{"step": 1}', b'[', b'null', b'\n')),
    bytes_in(folder, 'metrics.jsonl', parse),
    (str(folder),),
  )


RESULT = {
  'step': 10,
  'best_step': 5,
  'seed': 0,
  'num_seeds': 1,
  'parameters': 12,
  'data': 'a',
  'valid/loss': 1.5,
}
ENVIRONMENT = {
  'command': 'main',
  'git': 'abc',
  'python': '3.11',
  'versions': {'jax': '1'},
  'devices': ['cpu', 'cpu'],
  'machine': 'a, 2 cores',
  'seconds': 1.5,
}


def _sweep_record(folder):
  """A point's record, out of a run's files; and the table of all."""
  sweep = types.SimpleNamespace(
    folder=folder,
    objective='valid/loss',
    num_points=1,
    workdir=lambda number: folder,
    log=lambda number: folder / 'log',
  )
  (folder / 'records').mkdir()
  (folder / 'metrics.jsonl').write_bytes(METRICS)
  whole = {
    'point': 0,
    'overrides': {'seed': 1},
    'status': 'finished',
    'error': None,
    'value': 1.5,
    'step': 10,
  }
  documents = {
    'result.json': RESULT,
    'environment.json': ENVIRONMENT,
    'records/0000.json': whole,
    'metrics.jsonl': None,
  }

  def make(rng):
    name = rng.choice(list(documents))
    if documents[name]:
      return name.encode() + b'\n' + json_or_bytes(documents[name])(rng)
    return name.encode() + b'\n' + mutations.mutate(rng, METRICS)

  def parse(content):
    for name, document in documents.items():
      if document:
        (folder / name).write_text(json.dumps(document))
    name, _, content = content.partition(b'\n')
    (folder / name.decode()).write_bytes(content)
    json.dumps(records.of_workdir(sweep, 0))
    records.table(sweep)
    records.best(records.read_all(sweep))

  return Target(make, parse, (str(folder),), 3)


def _experiment_record(folder):
  sys.path.append(str(REPOSITORY))
  from experiments import table

  config = _small_config()
  row = table.Row('a', 'A', 'configs/text.py:ln_lstm')
  record = dict.fromkeys(table.FIELDS, 1) | {
    'config': files.config_json(config),
    'table': 'a',
    'metrics': {'valid/loss': 1.5},
  }
  (folder / 'a' / 'results').mkdir(parents=True)

  def parse(path):
    for found in table.records('a', folder):
      table.differences(found, config, row)

  return Target(
    json_or_bytes(record),
    bytes_in(folder / 'a' / 'results', 'a-seed-1.json', parse),
    (str(folder), 'the record of a', 'config.'),
    5,
  )


def _model_folder(folder):
  """An exported model; one of its files is damaged."""
  config = _small_config()
  task = parts.build_task(config)
  model_folder._save_arrays(
    folder / model_folder.ARRAYS, task.init(jax.random.key(0))
  )
  files.write_json(folder / model_folder.CONFIG, files.config_json(config))
  alphabet = list(range(256))
  files.write_json(
    folder / model_folder.DATA, {'name': 'a', 'alphabet': alphabet}
  )
  digests = model_folder.digests(folder)
  files.write_json(folder / model_folder.RESULT, {'sha256': digests})
  good = {path.name: path.read_bytes() for path in folder.iterdir()}

  def make(rng):
    name = rng.choice([*good, model_folder.ARRAYS, model_folder.CONFIG])
    if name.endswith('.json') and rng.random() < 0.7:
      content = mutations.mutate_json(rng, json.loads(good[name]))
    else:
      content = mutations.mutate(rng, good[name])
    return name.encode() + b'\n' + content

  def parse(content):
    for name, whole in good.items():
      (folder / name).write_bytes(whole)
    name, _, content = content.partition(b'\n')
    (folder / name.decode()).write_bytes(content)
    model_folder.load(folder)
    model_folder.sample(folder, length=2)

  return Target(make, parse, (str(folder), 'config.'), 20)


TARGETS = {
  'command_line': _command_line,
  'config_json': _config_json,
  'metrics': _metrics,
  'sweep_record': _sweep_record,
  'experiment_record': _experiment_record,
  'model_folder': _model_folder,
}
