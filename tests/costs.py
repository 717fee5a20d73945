"""Cost of the tests, by file: `bash scripts/test.sh --costs=build/costs.json`.

Processor time includes that of a file's subprocesses; programs compiled in them
are not counted.
"""

import collections
import json
import os
import pathlib
import time

import pytest

try:
  import xdist  # noqa: F401  # its hooks are known only where it is there
except ImportError:
  DISTRIBUTED = False
else:
  DISTRIBUTED = True

# Events of `jax.monitoring`. The first is of every program, cached or not.
COMPILED = '/jax/core/compile/backend_compile_duration'
SECONDS_OF = {
  '/jax/core/compile/jaxpr_trace_duration': 'trace_s',
  '/jax/core/compile/jaxpr_to_mlir_module_duration': 'lower_s',
  COMPILED: 'compile_s',
}
FIELDS = ('wall_s', 'cpu_s', 'programs', *SECONDS_OF.values())


def cpu_seconds() -> float:
  """Of this process and of those that it has waited for."""
  times = os.times()
  return sum(times[:4])


class Costs:
  """Adds up what each file takes, over all workers."""

  def __init__(self, config):
    self.config = config
    self.files = collections.defaultdict(lambda: dict.fromkeys(FIELDS, 0.0))
    self.current = None
    import jax

    jax.monitoring.register_event_duration_secs_listener(self.record)

  def record(self, event, seconds, **_):
    if self.current is not None and event in SECONDS_OF:
      # jax's clock is one that a test may set.
      elapsed = time.perf_counter() - self.started
      self.current[SECONDS_OF[event]] += min(seconds, elapsed)
      self.current['programs'] += event == COMPILED

  @pytest.hookimpl(wrapper=True, tryfirst=True)
  def pytest_runtest_protocol(self, item):
    self.current = self.files[item.location[0]]
    self.started, cpu = time.perf_counter(), cpu_seconds()
    try:
      return (yield)
    finally:
      self.current['wall_s'] += time.perf_counter() - self.started
      self.current['cpu_s'] += cpu_seconds() - cpu
      self.current = None

  def pytest_sessionfinish(self):
    if hasattr(self.config, 'workeroutput'):
      self.config.workeroutput['costs'] = dict(self.files)

  if DISTRIBUTED:

    def pytest_testnodedown(self, node):
      output = getattr(node, 'workeroutput', {})  # none of a lost worker
      for name, costs in output.get('costs', {}).items():
        for field, value in costs.items():
          self.files[name][field] += value

  def pytest_terminal_summary(self, terminalreporter):
    rows = sorted(self.files.items(), key=lambda row: -row[1]['cpu_s'])
    rows = [(n, {f: round(c[f], 1) for f in FIELDS}) for n, c in rows]
    total = {f: round(sum(c[f] for _, c in rows), 1) for f in FIELDS}
    terminalreporter.section('costs')
    for name, costs in [('all', total), *rows[:40]]:
      words = ' '.join(f'{f} {v:8.1f}' for f, v in costs.items())
      terminalreporter.write_line(f'{words}  {name}')
    if self.config.option.costs:
      path = pathlib.Path(self.config.option.costs)
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(json.dumps({'all': total, **dict(rows)}, indent=1) + '\n')
