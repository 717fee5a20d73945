"""Replaces itself by a command that ends when its parent does.

    python tether.py PARENT_PID COMMAND...

Run by its path, so that nothing else is imported. A parent that is killed can
not stop its children, and the kernel does it for them: by SIGTERM, at which a
run saves its state. Only Linux can; elsewhere a run goes on to its end.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == '__main__':
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):  # it has gone already
      sys.exit(128 + signal.SIGTERM)
  # Slurm tells a job so of its end; this is for the parent, which then stops
  # the run in an orderly way.
  signal.signal(signal.SIGUSR2, signal.SIG_IGN)
  os.execvp(sys.argv[2], sys.argv[2:])
