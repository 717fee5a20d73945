"""Stands for `hyperjax.main`: the same files of a workdir, at no cost.

Its objective at step s is x * (1 + 1 / s). `config.x` 13 is an error until a
file `mended` stands beside the workdir, and 99 is a crash.
"""

import json
import os
import pathlib
import signal
import sys
import time

STEPS = 5


def main():
  flags = dict(word[2:].split('=', 1) for word in sys.argv[1:])
  workdir, x = pathlib.Path(flags['workdir']), float(flags['config.x'])
  workdir.mkdir(parents=True, exist_ok=True)
  if x == 13 and not (workdir.parent / 'mended').exists():
    print('error: config.x is unlucky', file=sys.stderr)
    return 2
  if x == 99:
    os.kill(os.getpid(), signal.SIGKILL)
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  path = workdir / 'metrics.jsonl'
  lines = path.read_text().splitlines() if path.exists() else []
  with (workdir / 'starts').open('a') as file:
    file.write(f'{len(lines)}\n')
  for step in range(len(lines) + 1, STEPS + 1):
    time.sleep(float(flags['config.pause']))
    with path.open('a') as file:
      line = {'step': step, 'valid_quick/loss': x * (1 + 1 / step)}
      file.write(json.dumps(line) + '\n')
  time.sleep(float(flags['config.pause']))  # a test, behind the last step
  environment = {
    'git': 'abc',
    'versions': {'jax': '1'},
    'devices': ['cpu'],
    'machine': 'a machine',
    'seconds': 1.5,
    'gpus': os.environ.get('CUDA_VISIBLE_DEVICES'),
  }
  (workdir / 'environment.json').write_text(json.dumps(environment))
  result = {'step': STEPS, 'best_step': 4, 'parameters': 7, 'valid/loss': x}
  (workdir / 'result.json').write_text(json.dumps(result))
  return 0


if __name__ == '__main__':
  sys.exit(main())
