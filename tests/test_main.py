"""The command line, as a user meets it."""

import json
import pathlib
import subprocess
import sys
import textwrap
import time

import pytest
from absl import flags

from hyperjax import main
from hyperjax.errors import UserError

MAIN = (sys.executable, '-m', 'hyperjax.main')


def start(*arguments, cwd, **options):
  return subprocess.Popen(
    [*MAIN, *map(str, arguments)],
    cwd=cwd,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **options,
  )


def test_bad_command_lines_end_in_one_line(repository):
  """Bad before its flags are parsed, and after; below are more."""
  bad = {
    ('--config=configs/ptbb.py',): 'configs/ptb.py',
    ('--config=configs/ptb.py', '--config.model.hidden_size=0'): (
      'config.model.hidden_size is 0'
    ),
  }
  processes = [start(*arguments, cwd=repository) for arguments in bad]
  ends = [process.communicate(timeout=300) for process in processes]
  for (arguments, message), process, (out, err) in zip(
    bad.items(), processes, ends, strict=True
  ):
    assert process.returncode not in (0, None), arguments
    assert out == '', arguments
    assert len(err.strip().splitlines()) == 1, (arguments, err)
    assert err.startswith('error: '), (arguments, err)
    assert message in err, (arguments, err)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--config.modle.hidden_size=3'], 'config.model.hidden_size'),
    (['--config.model.hiden_size=3'], 'config.model.hidden_size'),
    (['--config.model=3'], 'a section'),
    (['--config.model.hidden_size=1.5'], 'config.model.hidden_size'),
    (['--config.model.hidden_size=abc'], 'config.model.hidden_size'),
    (
      ['--config.model.cell=ln_hyper_lsmt', '--mode=describe'],
      "config.model.cell: no 'ln_hyper_lsmt'",
    ),
    (['--config.optimizer.learning_rate=x'], 'learning_rate'),
    (['--mode=train'], '--workdir'),
    (['--mode=trian'], 'mode'),
    (['--workdri=x'], 'workdri'),
    (['--config.seed'], 'config.seed'),
    (['--config.model.hidden_size=' + '-' * 10_000 + '1'], 'flags: '),
  ],
)
def test_a_bad_flag_is_named(repository, parse, arguments, message):
  with pytest.raises(UserError) as error:
    main.main(parse(f'--config={repository}/configs/ptb.py', *arguments))
  assert message in str(error.value)
  assert '\n' not in str(error.value)


def test_an_unknown_row_is_named(repository, parse):
  with pytest.raises(UserError, match="'ln_lstm'"):
    parse(f'--config={repository}/configs/ptb.py:ln_lstmm')


def test_overrides_reach_the_config(repository, parse):
  rest = parse(
    '--config',
    f'{repository}/configs/ptb.py:ln_lstm',
    '--config.seed=3',
    '--config.optimizer.learning_rate=1',
    '--config.data.dir=/data',
    '--mode=describe',
  )
  assert rest == ['main']
  config = flags.FLAGS['config'].value
  assert config.seed == 3
  assert config.optimizer.learning_rate == 1.0
  assert config.data.dir == '/data'
  assert config.model.cell == 'ln_lstm'
  assert config.is_locked


def test_describe_needs_no_data_and_no_workdir(repository, parse, capsys):
  config = f'--config={repository}/configs/ptb.py:lstm_1000'
  main.main(parse(config, '--mode=describe'))
  out = capsys.readouterr().out
  assert out.splitlines()[-2:] == [
    'total parameters: 4,254,050',
    'stack/cells/0 on one NVIDIA GPU: a product and a kernel a time step',
  ]


TASK = """
  import jax
  import jax.numpy as jnp
  import optax

  from hyperjax.training.metrics import mean_of
  from hyperjax.types import Aux, Variables


  class Bigram:
    objective = 'nats'

    def __init__(self, vocab_size, scale):
      self.vocab_size, self.scale = vocab_size, scale

    def init(self, key):
      table = jnp.zeros((self.vocab_size, self.vocab_size))
      return Variables({'table': table}, {})

    def carry(self, batch_size):
      return ()

    def _nats(self, params, batch):
      return optax.softmax_cross_entropy_with_integer_labels(
        self.scale * params['table'][batch['inputs']], batch['targets']
      )

    def loss(self, params, state, carry, batch, key):
      nats = mean_of(self._nats(params, batch))
      return nats.total / nats.weight, Aux(state, carry, {'nats': nats})

    def metrics(self, params, state, carry, batch):
      nats = self._nats(params, batch)
      return carry, {'nats': mean_of(nats, batch['mask'])}


  def build(*, make_model, data, scale: float):
    return Bigram(data['vocab_size'], scale)
"""

CONFIG = """
  from hyperjax.config import base_config


  def get_config():
    config = base_config()
    config.task = {'name': 'bigram_task', 'scale': 1.0}
    config.data = {
      'name': 'text',
      'path': '',
      'batch_size': 8,
      'sequence_length': 16,
      'vocab_size': 256,
    }
    config.optimizer.learning_rate = 0.3
    config.train.update({
      'num_steps': 200, 'eval_every': 100, 'checkpoint_every': 100,
    })
    config.eval.num_streams = 16
    return config
"""


def test_a_task_of_the_users_own_trains_from_outside(
  repository, tmp_path, text_file
):
  """A config and a task file, in a folder that the project knows not of."""
  folder = tmp_path / 'mine'
  folder.mkdir()
  (folder / 'bigram_task.py').write_text(textwrap.dedent(TASK))
  (folder / 'bigram.py').write_text(textwrap.dedent(CONFIG))
  before = fingerprint(repository)
  process = start(
    f'--config={folder}/bigram.py',
    f'--config.data.path={text_file}',
    f'--workdir={tmp_path}/run',
    cwd=repository,
  )
  out, err = process.communicate(timeout=120)
  assert process.returncode == 0, err
  nats = float(out.split('test/nats')[1].split()[0])
  assert 0.5 < nats < 2.5  # ln 256 is 5.5
  assert fingerprint(repository) == before


def fingerprint(repository: pathlib.Path):
  return {
    path: path.read_bytes()
    for folder in ('hyperjax', 'configs')
    for path in (repository / folder).rglob('*.py')
  }


def tiny(repository, workdir, text_file, *more):
  """Arguments of a small run that takes long enough to be stopped."""
  return (
    f'--config={repository}/configs/text.py:lstm',
    f'--config.data.path={text_file}',
    '--config.data.batch_size=4',
    '--config.data.sequence_length=16',
    '--config.model.hidden_size=8',
    '--config.optimizer.schedule=constant',
    '--config.train.log_every=10',
    f'--workdir={workdir}',
    *more,
  )


def wait_for(condition, process):
  deadline = time.monotonic() + 200
  while not condition() and process.poll() is None:
    assert time.monotonic() < deadline
    time.sleep(0.02)


def names_in(folder):
  """The checkpoints that have been written whole."""
  paths = folder.iterdir() if folder.exists() else ()
  return {path.name for path in paths if path.name.isdigit()}


@pytest.mark.slow
def test_the_quick_start_reaches_its_bar(repository, tmp_path):
  process = start(
    f'--config={repository}/configs/text.py',
    f'--workdir={tmp_path}',
    cwd=repository,
  )
  _, err = process.communicate(timeout=1200)
  assert process.returncode == 0, err
  result = json.loads((tmp_path / 'result.json').read_text())
  bits = result['test/bits_per_char']
  assert bits < result['reference/order_3_count_model_bits_per_char']
  assert bits < 0.4 * result['reference/unigram_entropy_bits_per_char']


# A network and a run that are smaller still than those of `smoke`.
SMALLER = (
  '--config.model.hidden_size=8',
  '--config.model.hyper_size=4',
  '--config.optimizer.learning_rate=2e-2',
  '--config.optimizer.warmup_steps=10',
  '--config.train.num_steps=40',
  '--config.train.eval_every=40',
  '--config.train.checkpoint_every=10',
  '--config.sample.length=20',
)


@pytest.fixture
def smoke(repository, tmp_path):
  """Arguments of the smoke run on Penn Treebank, and its folder."""
  config = f'--config={repository}/configs/ptb.py:ln_hyper_lstm,smoke'
  return (config, f'--workdir={tmp_path}/run'), tmp_path / 'run'


MODES = ('train', 'evaluate', 'sample')


@pytest.mark.data('ptb')
def test_a_smaller_smoke_run_on_penn_treebank(smoke, parse, forget, capsys):
  """The commands in this process; tests/faults has what is killed."""
  outs = {}
  for mode in MODES:
    main.main(parse(*smoke[0], *SMALLER, f'--mode={mode}'))
    forget()
    outs[mode] = capsys.readouterr().out
  # A guess by how often each symbol is: 4.31.
  assert 1.0 < json.loads(outs['evaluate'])['test/bits_per_char'] < 4.3
  assert outs['sample'].startswith('the ')


@pytest.mark.slow
@pytest.mark.data('ptb')
def test_the_smoke_run_on_penn_treebank(repository, smoke):
  arguments, workdir = smoke
  process = start(*arguments, cwd=repository)
  wait_for((workdir / 'checkpoints' / '100').exists, process)
  process.kill()
  process.communicate()
  ends = {}
  for mode in MODES:
    process = start(*arguments, f'--mode={mode}', cwd=repository)
    ends[mode] = process.communicate(timeout=600)
    assert process.returncode == 0, ends[mode][1]
  assert 'going on from step' in ends['train'][1]
  assert 1.0 < json.loads(ends['evaluate'][0])['test/bits_per_char'] < 2.6
  assert ends['sample'][0].startswith('the ')
