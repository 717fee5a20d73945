"""Small runs for the real command line, which break where they are told to.

python -m hyperjax.main --config=tests/faults/config.py:language --workdir=...

A config file is Python, so a fault can be set up here, in the process that is
to suffer it, and the package needs no hooks for it. `$FAULT` names it:

    phases FILE          keeps in FILE what the process is doing
    kill PHASE N         SIGKILL at the N-th time that the phase begins
    signal PHASE N NAME  the same with a signal of another name
    full PHASE N         from then on there is no room for a checkpoint's data
    stuck PHASE N        from then on it is written for ever
    command PHASE N ...  runs a command before
"""

import errno
import functools
import os
import pathlib
import signal
import subprocess
import time

from etils import epath

from hyperjax import parts, run
from hyperjax.config import load, parse_argument
from hyperjax.evaluation.evaluate import Evaluator
from hyperjax.training import loop
from hyperjax.training.checkpoint import Checkpointer
from hyperjax.training.session import Session
from hyperjax.training.writers import MetricsWriter

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
VARIABLE = 'FAULT'
# What of the package is at work in each phase; else a process is starting.
PHASES = {
  'reading data': (parts, 'build_source'),
  'restoring': (Session, '__init__'),
  'compiling': (loop, 'run'),  # until the first dispatch is read
  'stepping': (Session, '_add'),  # from its first call on
  'logging': (MetricsWriter, 'write'),
  'evaluating': (Evaluator, '__call__'),
  'saving': (Checkpointer, 'save'),
  'finishing': (run, '_conclude'),
}


def language():
  config = load(f'{CONFIGS}/text.py:lstm')
  config.data.update(
    {'path': '', 'batch_size': 4, 'sequence_length': 16, 'vocab_size': 16}
  )
  config.model.hidden_size = 12
  config.model.output_keep_prob = 0.9
  config.optimizer.update({'learning_rate': 3e-2, 'warmup_steps': 5})
  config.eval.num_streams = config.eval.quick_streams = 16
  config.sample.update({'prompt': 'the ', 'length': 20})
  return config


def images():
  config = load(f'{CONFIGS}/cifar10.py:hyper_wrn_40_1,images')
  config.data.update(
    {
      'image_shape': (8, 8, 3),
      'num_classes': 2,
      'num_valid': 16,
      'batch_size': 8,
      'pad': 1,
    }
  )
  config.model.update({'depth': 10, 'z_size': 8})
  config.optimizer.update(
    {'learning_rate': 0.01, 'boundaries': (30,), 'rates': (0.005,)}
  )
  config.eval.update(
    {'num_streams': 16, 'quick_streams': 16, 'implausible_below': 0.0}
  )
  return config


KINDS = {'language': language, 'images': images}


def get_config(argument: str = 'language'):
  kind, _ = parse_argument(argument, KINDS)
  config = KINDS[kind]()
  config.train.update(
    {
      'num_steps': 60,
      'eval_every': 20,
      'checkpoint_every': 10,
      'log_every': 5,
      'steps_per_dispatch': 4,
    }
  )
  if fault := os.environ.get(VARIABLE):
    name, *words = fault.split(maxsplit=1)
    FAULTS[name](*words)
  return config


def at_phase(phase, number, act):
  """Acts when a phase begins for the given time, on whose method it is."""
  owner, name = PHASES[phase]
  function, left = getattr(owner, name), [int(number)]

  @functools.wraps(function)
  def wrapped(*args, **kwargs):
    left[0] -= 1
    if left[0] == 0:
      act(args[0] if args else None)
    return function(*args, **kwargs)

  setattr(owner, name, wrapped)


def kill(words):
  phase, number = words.rsplit(' ', 1)
  at_phase(phase, number, lambda _: os.kill(os.getpid(), signal.SIGKILL))


def send(words):
  phase, number, name = words.rsplit(' ', 2)
  signum = signal.Signals[name]
  at_phase(phase, number, lambda _: os.kill(os.getpid(), signum))


def command(words):
  phase, number, *line = words.split()  # of phases in one word
  at_phase(phase, number, lambda _: subprocess.run(line, check=True))


def full(words):
  def fail():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  break_saves(words, fail)


def stuck(words):
  break_saves(words, lambda: time.sleep(600))


def break_saves(words, act):
  """Something comes before the metadata that orbax's threads write."""
  write = epath.Path('/').write_text.__func__

  def begin(checkpointer):
    checkpointer.wait()  # else the save before may meet it

    def act_and_write(self, *arguments, **options):
      act()
      return write(self, *arguments, **options)

    type(epath.Path('/')).write_text = act_and_write

  phase, number = words.rsplit(' ', 1)
  at_phase(phase, number, begin)


def phases(path):
  file = os.open(path, os.O_WRONLY | os.O_CREAT)

  def enter(phase):
    os.pwrite(file, phase.ljust(20).encode(), 0)
    return phase

  current = ['starting']

  def watch(phase, owner, name):
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
      before, current[0] = current[0], enter(phase)
      result = function(*args, **kwargs)
      if phase == 'finishing':
        before = 'ending'
      if phase != 'stepping':
        current[0] = enter(before)
      return result

    setattr(owner, name, wrapped)

  enter('starting')
  for phase, (owner, name) in PHASES.items():
    watch(phase, owner, name)


FAULTS = {
  'phases': phases,
  'kill': kill,
  'signal': send,
  'command': command,
  'full': full,
  'stuck': stuck,
}
