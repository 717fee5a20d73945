"""A headless Chromium over its debugging pipe, with the standard library."""

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import subprocess

NAMES = 'chromium', 'chromium-browser', 'google-chrome'
OPTIONS = (
  '--headless=new',
  '--no-sandbox',  # root may not have one
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-extensions',
  '--disable-background-networking',
  '--no-first-run',
  '--remote-debugging-pipe',
)


def find() -> str | None:
  """The path of a Chromium."""
  return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
  """A page of a browser: commands, and the events that came with them."""

  def __init__(self, write, read):
    self._write, self._read = write, read
    self._numbers = itertools.count(1)
    self._rest = b''
    self._session = None
    self.events = []
    target = self.send('Target.createTarget', url='about:blank')['targetId']
    self._session = self.send(
      'Target.attachToTarget', targetId=target, flatten=True
    )['sessionId']

  def send(self, method, **params):
    """What a command answers."""
    number = next(self._numbers)
    message = {'id': number, 'method': method, 'params': params}
    if self._session:
      message['sessionId'] = self._session
    self._write.write(json.dumps(message).encode() + b'\0')
    self._write.flush()
    while (answer := self._next()).get('id') != number:
      self.events.append(answer)
    if 'error' in answer:
      raise RuntimeError(f'{method}: {answer["error"]}')
    return answer['result']

  def wait(self, method):
    """Waits for an event."""
    while not any(event.get('method') == method for event in self.events):
      self.events.append(self._next())

  def evaluate(self, expression):
    """The value of a JavaScript expression, awaited."""
    result = self.send(
      'Runtime.evaluate',
      expression=expression,
      returnByValue=True,
      awaitPromise=True,
    )
    if 'exceptionDetails' in result:
      raise RuntimeError(f'{result["exceptionDetails"]}')
    return result['result'].get('value')

  def resize(self, width, height):
    """Shows the page in a window of that size."""
    self.send(
      'Emulation.setDeviceMetricsOverride',
      width=width,
      height=height,
      deviceScaleFactor=1,
      mobile=width < 600,
    )

  def open(self, path: pathlib.Path):
    """Opens a file and waits until it is loaded; requests are events."""
    self.send('Network.enable')
    self.send('Page.enable')
    self.send('Page.navigate', url=path.resolve().as_uri())
    self.wait('Page.loadEventFired')

  def requests(self) -> list[str]:
    """The addresses that the page has asked for."""
    return [
      event['params']['request']['url']
      for event in self.events
      if event.get('method') == 'Network.requestWillBeSent'
    ]

  def _next(self):
    """The next message of the browser."""
    while b'\0' not in self._rest:
      if not (more := os.read(self._read.fileno(), 1 << 16)):
        raise RuntimeError('the browser has ended')
      self._rest += more
    message, _, self._rest = self._rest.partition(b'\0')
    return json.loads(message)


@contextlib.contextmanager
def launched(profile: pathlib.Path):
  """A browser with one page; its profile is a folder of its own."""
  # The browser reads commands from descriptor 3 and answers on 4.
  to_read, to_write = os.pipe()
  from_read, from_write = os.pipe()
  command = [find(), *OPTIONS, f'--user-data-dir={profile}', 'about:blank']
  process = subprocess.Popen(
    ['bash', '-c', f'exec "$@" 3<&{to_read} 4>&{from_write}', 'bash', *command],
    pass_fds=(to_read, from_write),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  os.close(to_read)
  os.close(from_write)
  with open(to_write, 'wb') as write, open(from_read, 'rb') as read:
    try:
      yield Page(write, read)
    finally:
      process.terminate()
      process.wait(20)
