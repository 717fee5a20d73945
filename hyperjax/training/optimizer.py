"""Optimizers and learning-rate schedules by name, on optax."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import optax

from hyperjax.errors import UserError, did_you_mean

OPTIMIZERS = ('adam', 'adamw', 'sgd')
SCHEDULES = ('constant', 'linear', 'cosine', 'steps')


def build(
  *,
  name: str,
  learning_rate: float,
  num_steps: int,
  schedule: str = 'constant',
  warmup_steps: int = 0,
  clip_norm: float = 0.0,
  clip_value: float = 0.0,
  weight_decay: float = 0.0,
  nesterov: bool = False,
  boundaries: Sequence[int] = (),
  rates: Sequence[float] = (),
  factors: Sequence[tuple[int, float]] = (),
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """The optimizer of `config.optimizer`, and its learning rate by step.

  Args:
    name: 'adam', 'adamw' (decoupled weight decay) or 'sgd' (momentum 0.9).
    learning_rate: the peak, reached after the warm-up.
    num_steps: steps of the whole run; schedules end there.
    schedule: 'constant'; 'linear' or 'cosine' decay to zero; or 'steps'.
    warmup_steps: steps of linear warm-up, from peak / warmup_steps.
    clip_norm: largest global norm of the gradient; 0 means no clipping.
    clip_value: largest absolute value of an element; 0 means no clipping.
    weight_decay: of adamw.
    nesterov: of sgd: Nesterov's momentum.
    boundaries: of 'steps': where each further rate begins, ascending.
    rates: of 'steps': the learning rate from each boundary on.
    factors: each (step, factor), which multiplies the rate from that step on.
  """
  if name not in OPTIMIZERS:
    raise UserError(
      f"config.optimizer.name: no optimizer '{name}'"
      f'{did_you_mean(name, OPTIMIZERS)}'
    )
  if weight_decay and name != 'adamw':
    raise UserError(
      f'config.optimizer.weight_decay is {weight_decay}, but only adamw decays '
      f"weights, not '{name}'"
    )
  if nesterov and name != 'sgd':
    raise UserError(
      f"config.optimizer.nesterov: only sgd has momentum, not '{name}'"
    )
  if schedule == 'steps':
    _check_steps(boundaries, rates, warmup_steps)
  elif boundaries or rates:
    raise UserError(
      f"config.optimizer.boundaries and rates: the schedule is '{schedule}'; "
      f"they are of 'steps'"
    )
  rate = _schedule(
    schedule, learning_rate, warmup_steps, num_steps, boundaries, rates
  )
  if factors:
    rate = _scaled(rate, factors)
  chain = []
  if clip_norm:
    chain.append(optax.clip_by_global_norm(clip_norm))
  if clip_value:
    chain.append(optax.clip(clip_value))
  if name == 'adam':
    chain.append(optax.adam(rate))
  elif name == 'adamw':
    chain.append(optax.adamw(rate, weight_decay=weight_decay))
  else:
    chain.append(optax.sgd(rate, momentum=0.9, nesterov=nesterov))
  return optax.chain(*chain), rate


def _scaled(rate, factors):
  starts, scales = (np.array(column) for column in zip(*factors, strict=True))

  def scaled(step):
    return rate(step) * jnp.prod(jnp.where(step >= starts, scales, 1.0))

  return scaled


def _check_steps(boundaries, rates, warmup_steps):
  if len(boundaries) != len(rates) or not boundaries:
    raise UserError(
      f'config.optimizer.boundaries has {len(boundaries)} steps and '
      f'config.optimizer.rates {len(rates)} rates; give one rate a boundary'
    )
  if list(boundaries) != sorted(set(boundaries)) or boundaries[0] < 1:
    raise UserError(
      f'config.optimizer.boundaries {tuple(boundaries)} must ascend from 1'
    )
  if boundaries[0] <= warmup_steps:
    raise UserError(
      f'config.optimizer.boundaries begin at {boundaries[0]}, within the '
      f'{warmup_steps} steps of warm-up'
    )
  if min(rates) <= 0:
    raise UserError(f'config.optimizer.rates {tuple(rates)} must be above 0')


def _schedule(name, peak, warmup_steps, num_steps, boundaries, rates):
  decay_steps = num_steps - warmup_steps
  if decay_steps < 1:
    raise UserError(
      f'config.optimizer.warmup_steps {warmup_steps} leaves no step of '
      f'config.train.num_steps {num_steps}'
    )
  if name == 'constant':
    decay = optax.constant_schedule(peak)
  elif name == 'linear':
    decay = optax.linear_schedule(peak, 0.0, decay_steps)
  elif name == 'cosine':
    decay = optax.cosine_decay_schedule(peak, decay_steps)
  elif name == 'steps':
    # join_schedules counts the steps of each part from its own start.
    parts = [optax.constant_schedule(rate) for rate in (peak, *rates)]
    decay = optax.join_schedules(
      parts, [boundary - warmup_steps for boundary in boundaries]
    )
  else:
    raise UserError(
      f"config.optimizer.schedule: no schedule '{name}'"
      f'{did_you_mean(name, SCHEDULES)}'
    )
  if not warmup_steps:
    return decay
  # From 1/n and not from 0: a step with a rate of zero is a step lost.
  warmup = optax.linear_schedule(
    peak / warmup_steps, peak, max(warmup_steps - 1, 1)
  )
  return optax.join_schedules([warmup, decay], [warmup_steps])
