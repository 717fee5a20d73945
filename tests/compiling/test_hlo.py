"""Texts of the kind that compilers for an H100 and for a TPU v5e print."""

import pathlib

from hyperjax.compiling import hlo


def read(name):
  return hlo.read(pathlib.Path(__file__).with_name(name).read_text())


def test_a_program_for_a_gpu():
  program = read('gpu.hlo')
  (loop,) = program.loops
  assert (loop.depth, loop.trips) == (0, 25)
  assert loop.kernels == ['loop_add_fusion', 'forward_kernel', 'ar-start']
  # The loop, the product, and of the conditional itself and the longer branch.
  assert program.launches == 25 * 3 + 1 + 1 + 2
  assert program.collectives == {'all-reduce': (25, 25 * 8 * 16 * 4)}
  assert program.cycles == 0


def test_a_program_for_a_tpu():
  program = read('tpu.hlo')
  outer, inner = program.loops
  assert (outer.depth, outer.trips, outer.cycles) == (0, None, 5)
  assert (inner.depth, inner.trips, inner.cycles) == (1, 7, 30)
  assert inner.kernels == ['add']
  assert program.launches == 1 + 7
  assert program.cycles == 5 + 7 * 30
  assert program.collectives == {}
