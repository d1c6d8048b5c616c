"""The process of the command: how it ends after Ctrl-C, and streams that are closed, full or no longer read.

Imports next to nothing, because Ctrl-C must end the command without a traceback from its first moment on.
"""

import io
import os
import signal
import sys

__all__ = ["BAD_INPUT", "INTERRUPTED", "fail", "flush", "run"]

BAD_INPUT, INTERRUPTED = 2, 130
_LONGEST = 1000  # characters of an error
_IMPORTS = "<frozen importlib._bootstrap>"


def run(work, argv):
    """Exit status of ``work(argv)``; without ``argv`` the process is taken over first."""
    if argv is not None:
        return work(argv)
    _own_streams()
    catching = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else ignored, as by nohup
    if catching:
        signal.signal(signal.SIGINT, _on_interrupt)
        sys.unraisablehook = _on_unraisable
    try:
        status = _status(work)
        flush()
    except KeyboardInterrupt:
        status = fail("interrupted", INTERRUPTED)
    except OSError as error:
        status = fail(error)
    if status in (BAD_INPUT, INTERRUPTED):
        sys.stderr.flush()
        os._exit(status)  # there is nothing to be kept, and threads of a broken pool of processes may never end
    if catching:
        signal.signal(signal.SIGINT, _end)
    return status


def _status(work):
    try:
        return work(None)
    except SystemExit as stop:  # from the parser: --help, or an argument that is not allowed
        return stop.code
    except Exception:  # a fault of the package keeps its traceback, but 1 means that some rows failed
        import traceback

        traceback.print_exc()
        return BAD_INPUT


def fail(error, status=BAD_INPUT):
    """Say in one line what is wrong, and return the exit status."""
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"astroclassify: error: {text if len(text) <= _LONGEST else f'{text[:_LONGEST]} ...'}", file=sys.stderr)
    return status


class _Output(io.FileIO):
    """Standard output or error, whose reader may end before us (``astroclassify ... | head``)."""

    def write(self, data):
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)


def _own_streams():
    """Make sure that no file of ours becomes standard output or error, and that these can be written to the end."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # Standard output that is closed stays None, which `emit` refuses; a notebook's is its own affair.
        if stream is not None and stream is getattr(sys, f"__{name}__"):
            raw = io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False))
            lines = name == "stderr" or stream.line_buffering
            stream = io.TextIOWrapper(raw, stream.encoding, "backslashreplace", line_buffering=lines)
            setattr(sys, name, stream)


def flush():
    """Write what is left of standard output now, while an error can still be reported."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        sys.stdout = None  # or the interpreter would try again at its end
        raise OSError(f"cannot write to standard output: {error.strerror}") from None


def _on_interrupt(_signal, frame):
    """Interrupt the work; end at once where that is not safe to do: many packages swallow an exception while they are
    imported, or make another one of it. The second Ctrl-C ends at once as well."""
    signal.signal(signal.SIGINT, _end)
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTS:
            _end()
        frame = frame.f_back
    raise KeyboardInterrupt


def _end(*_):
    os.write(2, b"astroclassify: error: interrupted\n")
    os._exit(INTERRUPTED)


def _on_unraisable(unraisable):
    """Python drops exceptions of destructors and callbacks: not this one."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _end()
    sys.__unraisablehook__(unraisable)
