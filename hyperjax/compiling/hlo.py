"""What a compiled program launches, read from its text."""

import dataclasses
import re
from collections.abc import Iterator

# Instructions that cost nothing when the program runs.
FREE = {
  *('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'iota'),
  *('after-all', 'partition-id', 'replica-id', 'opt-barrier'),
}
# Ends of what another instruction has begun.
DONE = re.compile(r'-(done|update)$')
COLLECTIVES = (
  *('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all'),
  *('collective-permute', 'collective-broadcast', 'ragged-all-to-all'),
)
SCAN_CONDITION = ['compare', 'constant', 'get-tuple-element', 'parameter']
BITS = {'pred': 8, 'bf16': 16, 's4': 4, 'u4': 4, 'token': 0}


@dataclasses.dataclass
class Instruction:
  """A line of the text.

  Attributes:
    opcode: such as fusion, custom-call, while.
    name: of the kernel: that of a custom call or of the instruction, without
      its number.
    bytes: of the result.
    cycles: that the TPU's compiler estimates, or 0.
    bodies: computations that it runs, each once.
    body: of a loop, or ''.
    condition: of a loop, or ''.
    trips: how often, None for unknown.
  """

  opcode: str
  name: str
  bytes: int
  cycles: int
  bodies: list[str]
  body: str
  condition: str
  trips: int | None


@dataclasses.dataclass
class Loop:
  """A loop of the program.

  Attributes:
    depth: how many loops it is in.
    trips: how often its body runs, None for unknown.
    kernels: names of what its body launches, without loops within.
    cycles: estimated for the body, without loops within.
  """

  depth: int
  trips: int | None
  kernels: list[str]
  cycles: int


@dataclasses.dataclass
class Program:
  """What a compiled program runs.

  Attributes:
    loops: from the outside in, in their order.
    launches: kernels in all, loops times trips; loops of unknown length count
      once.
    cycles: estimated in all, likewise.
    collectives: (kind, how often, bytes of the results), likewise.
  """

  loops: list[Loop]
  launches: int
  cycles: int
  collectives: dict[str, tuple[int, int]]


def read(text: str) -> Program:
  """Reads `compiled.as_text()`."""
  computations, entry = _computations(text)
  lengths = _lengths(text)
  for x in (x for found in computations.values() for x in found):
    if x.body and x.trips is None:
      x.trips = lengths.get(x.condition)
  program = Program([], 0, 0, {})
  _walk(computations, entry, 1, 0, program, None)
  return program


def _walk(computations, name, times, depth, program, loop):
  for x in computations.get(name, []):
    if x.body:
      found = Loop(depth, x.trips, [], 0)
      program.loops.append(found)
      times_inside = times * (1 if x.trips is None else x.trips)
      _walk(computations, x.body, times_inside, depth + 1, program, found)
      continue
    if x.bodies:
      # A branch of a conditional, the largest, or a call.
      largest = max(x.bodies, key=lambda body: len(computations.get(body, [])))
      _walk(computations, largest, times, depth, program, loop)
      if x.opcode == 'call':
        continue
    program.launches += times
    program.cycles += times * x.cycles
    if loop:
      loop.kernels.append(x.name)
      loop.cycles += x.cycles
    kind = x.opcode.removesuffix('-start')
    if kind in COLLECTIVES:
      count, size = program.collectives.get(kind, (0, 0))
      program.collectives[kind] = count + times, size + times * x.bytes


def _computations(text):
  """{name: instructions that cost something}, and the entry's name."""
  found, name, entry = {}, None, ''
  for line in text.splitlines():
    begin = re.match(r'(ENTRY )?%?([\w.\-]+) .*->.*\{$', line)
    if begin:
      name = begin[2]
      found[name] = []
      entry = name if begin[1] else entry
    elif line.startswith('}'):
      name = None
    elif name:
      found[name] += _instruction(line.strip())
  return found, entry


def _lengths(text):
  """{condition: N} of loops that go on as long as a counter is below N.

  jax's scans count from zero by ones. The compiler for TPUs does not tell the
  number otherwise.
  """
  found = {}
  for block in re.split(r'\n\}\n', text):
    lines = block.strip().splitlines()
    begin = re.match(r'%?([\w.\-]+) .*->.*\{$', lines[0]) if lines else None
    opcodes = sorted(
      opcode[1]
      for line in lines[1:]
      if (opcode := re.search(r'[\])}] ([a-z\-]+)\(', line))
    )
    if begin and opcodes == SCAN_CONDITION and 'direction=LT' in block:
      found[begin[1]] = int(re.search(r'constant\((\d+)\)', block)[1])
  return found


def _instruction(line) -> Iterator[Instruction]:
  begin = re.match(r'(?:ROOT )?%?([\w.\-]+) = (.*)', line)
  if not begin:
    return
  name, rest = begin.groups()
  head = re.sub(r'/\*.*?\*/', '', rest.split(', metadata=')[0])
  shape, opcode = _shape_and_opcode(head)
  if not opcode or opcode in FREE or DONE.search(opcode):
    return
  body = re.search(r'\bbody=%?([\w.\-]+)', rest) if opcode == 'while' else None
  condition = re.search(r'\bcondition=%?([\w.\-]+)', rest)
  trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', rest)
  bodies = []
  if opcode == 'conditional':
    listed = re.search(r'branch_computations=\{([^}]*)\}', rest)
    listed = (
      listed[1]
      if listed
      else ' '.join(
        re.findall(r'(?:true|false)_computation=%?([\w.\-]+)', rest)
      )
    )
    bodies = re.findall(r'[\w.\-]+', listed)
  elif opcode == 'call':
    bodies = re.findall(r'to_apply=%?([\w.\-]+)', rest)
  cycles = re.search(r'"estimated_cycles":"(\d+)"', rest)
  yield Instruction(
    opcode,
    _kernel_name(name, opcode, rest),
    _bytes(shape),
    int(cycles[1]) if cycles else 0,
    bodies,
    body[1] if body else '',
    condition[1] if body else '',
    int(trips[1]) if trips else None,
  )


def _shape_and_opcode(head):
  """('f32[2,3]{1,0}', 'add') of 'f32[2,3]{1,0} add(...)'; shapes may nest."""
  depth = 0
  for place, letter in enumerate(head):
    if letter in '([{':
      depth += 1
    elif letter in ')]}':
      depth -= 1
    elif letter == ' ' and depth == 0:
      opcode = re.match(r'([a-z][\w\-]*)\(', head[place + 1 :])
      return head[:place], opcode[1] if opcode else ''
  return head, ''


def _kernel_name(name, opcode, rest):
  if opcode == 'custom-call':
    path = re.search(r'op_name="[^"]*?([\w.\-]+)/pallas_call"', rest)
    target = re.search(r'custom_call_target="([^"]*)"', rest)
    if path:
      return path[1]
    if target:
      return target[1]
  return re.sub(r'[.\d]+$', '', name) or opcode


def _bytes(shape):
  total = 0
  for kind, dims in re.findall(r'([a-z]\w*)\[([\d,]*)\]', shape):
    bits = BITS.get(kind) or int((re.findall(r'\d+', kind) or ['0'])[0])
    size = 1
    for dim in filter(None, dims.split(',')):
      size *= int(dim)
    total += size * bits // 8
  return total
