import types

import numpy as np

from hyperjax.training.log import TrainLog
from hyperjax.training.metrics import Mean


def test_a_line_has_the_means_since_the_one_before_and_the_last_rate():
  lines = []
  log = TrainLog(
    types.SimpleNamespace(write=lambda step, line: lines.append((step, line))),
    types.SimpleNamespace(show=lambda **_: None, update=lambda step: None),
    learning_rate=lambda step: 0.5**step,
    shown='loss',
    seeds=[0],
    step=0,
  )
  for step, total in ((1, 3.0), (3, 5.0), (4, 7.0)):
    log.add(step, {'loss': Mean(np.float32(total), np.float32(2.0))})
    if step > 1:
      log.flush(step)
  assert [step for step, _ in lines] == [3, 4]
  assert [line['train/loss'] for _, line in lines] == [2.0, 3.5]
  # Step 3 is behind three updates, of which the last was at rate(2).
  assert [line['train/learning_rate'] for _, line in lines] == [0.25, 0.125]
