"""What every script does around its work: configuration, messages, exit codes."""

import io
import logging
import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# What torchao and diffusers say of each other when torchao is there, whether it is used or not.
CHATTER = ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao")

RESUMES = "what is complete is kept; the same words again go on from there"


def main(
    name: str,
    kind: type[T],
    work: Callable[[T], None],
    help_text: str | None,
    stopped: str = "nothing was written",
) -> None:
    """Run ``work`` on ``configs/NAME.yaml`` under the command line's ``key=value`` words.

    What the user can mend ends in one line, ``error: ...``, and exit code 2.

    Args:
        stopped: what Ctrl-C leaves behind, for the user.
    """
    words = sys.argv[1:]
    _log_to_stderr()
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal cannot show must end no run
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        # Imported here, since that takes a while, in which Ctrl-C is answered too.
        from flowact.config import describe, load_config

        if {"-h", "--help"} & set(words):
            text = (help_text or "").strip()
            sys.stdout.write(f"{text}\n\nKeys, given as key=value:\n\n{describe(name)}")
            return
        work(load_config(name, words, kind))
    except ValueError as error:
        _end(f"error: {' '.join(str(error).split())}", 2)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _end(f"error: {error.strerror or error}{where}", 2)
    except KeyboardInterrupt:
        _end(f"stopped: {stopped}", 130)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    package = logging.getLogger("flowact")
    package.handlers = [handler]
    package.propagate = False
    for name in CHATTER:
        logging.getLogger(name).setLevel(logging.ERROR)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {' '.join(record.getMessage().split())}"


def _end(message: str, code: int) -> None:
    sys.stderr.write(message + "\n")
    raise SystemExit(code)
