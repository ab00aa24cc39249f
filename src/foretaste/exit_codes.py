"""How a command ends: with an exit code, and where something is at fault with one line about it on standard error."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

import typer

from foretaste.errors import ForetasteError, nearest
from foretaste.memory import is_out_of_memory

__all__ = ["exit_code"]

DONE, AT_FAULT, INTERRUPTED = 0, 2, 130  # 1 is a defect of ours: the exception itself
NO_MEMORY = "Not enough memory. 'foretaste doctor --users N --items N --events N' says what each model takes."


def exit_code(work: Callable[[], object]) -> int:
    """Do the work. 0: done; 2: the call or the data is at fault; 130: Ctrl-C. A defect of ours is raised on."""
    try:
        work()
        if sys.stdout is not None:
            sys.stdout.flush()
    except typer.Exit as ended:
        return int(ended.exit_code)
    except ForetasteError as error:
        return _fail(str(error))
    except typer.TyperException as error:
        return _fail_usage(error)
    except KeyboardInterrupt:
        _say("\ninterrupted; nothing half-written is left. run and train go on with --resume.")
        return INTERRUPTED
    except BrokenPipeError:
        _forget(sys.stdout)  # the reader of the pipe has gone, as head does; that is no error
        return DONE
    except OSError as error:
        _forget(sys.stdout)
        return _fail(f"{error.filename or 'Standard output'}: {error.strerror or error}.")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _fail(NO_MEMORY)
    return DONE


def _fail(message: str) -> int:
    _say(f"error: {' '.join(message.split())}")
    return AT_FAULT


def _say(message: str) -> None:
    with suppress(OSError, AttributeError):  # there is nowhere else to complain that standard error is full or closed
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


def _forget(stream: IO[str]) -> None:
    """Let what is buffered go nowhere: the interpreter would try to write it once more as it ends, and complain."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail_usage(error: Any) -> int:
    """A call that cannot be understood: what, and what was likely meant."""
    context, message = error.ctx, error.format_message()
    if not context:
        return _fail(message)
    if message == context.get_help():  # no command was given
        _say(message)
        return AT_FAULT
    option = getattr(error, "option_name", None)
    if option is not None:
        known = [name for each in context.command.params for name in each.opts if name.startswith("-")]
        message = f"Unknown option {option!r}{nearest(option, known)}"
    elif error.__cause__ is not None and getattr(error, "param", None) is not None:
        message = _bad_value(error)
    return _fail(f"{message} See '{context.command_path} --help'.")


def _bad_value(error: Any) -> str:
    what = error.__cause__.errors()[0]
    given, message = what["input"], what["msg"].removeprefix("Value error, ").rstrip(".")
    names = [name for name in message.split("'")[1::2] if name != given]
    end = nearest(str(given), names) if what["type"] == "value_error" else f" (given: {given!r})."
    return f"{error.param.opts[0]}: {message[:1].lower()}{message[1:]}{end}"
