"""What every command does alike: help in sections, and mistakes as one line with the remedy."""

import logging
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

import busway
from busway.bus.errors import BuswayError

CONTEXT: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "show_default": True,
    "max_content_width": 100,
    # "--websocket_timeout" is how daphne wrote some of its options.
    "token_normalize_func": lambda word: word.replace("_", "-"),
}
"""Settings of every command."""

_OWN = Path(busway.__file__).parent


class Option(click.Option):
    """An option that stands under the heading `section` in the help."""

    def __init__(self, *declarations: str, section: str = "Options", **settings: Any) -> None:
        """Take what `click.Option` takes."""
        super().__init__(list(declarations), **settings)
        self.section = section


class Command(click.Command):
    """A command whose errors are one line, and tracebacks only with `--debug`."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, ModuleNotFoundError):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            if ctx.params.get("process_name"):
                # One of several processes: their log says which.
                logging.getLogger("busway").error(explain(error))  # noqa: TRY400
                ctx.exit(1)
            if isinstance(error, BrokenPipeError):
                raise  # nobody reads on, as behind `| head`: click ends in silence
            raise click.ClickException(explain(error)) from error

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in their sections, in the order in which sections first appear."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None and isinstance(option, click.Option):
                sections.setdefault(getattr(option, "section", "Options"), []).append(record)
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)


def command(
    name: str, *options: Sequence[click.Parameter]
) -> Callable[[Callable[..., None]], Command]:
    """Make a command `name` of a function, with groups of options; its docstring is the help."""

    def decorate(function: Callable[..., None]) -> Command:
        return Command(
            name,
            callback=function,
            help=function.__doc__,
            params=[option for group in options for option in group],
            context_settings=CONTEXT,
        )

    return decorate


def arguments(target: Command, values: dict[str, Any]) -> list[str]:
    """Return the command line of `target` that gives its parameters `values`.

    Names that it does not have are left out, and so are values that are its defaults.
    """
    words: list[str] = []
    for option in target.params:
        value = values.get(option.name or "")
        if value is None or value == option.default:
            continue
        if not isinstance(option, click.Option):
            words.append(str(value))
            continue
        flag = max(option.opts, key=len)
        if option.is_flag:
            words += [flag] * bool(value)
        elif option.multiple:
            words += [word for item in value for word in (flag, str(item))]
        else:
            words += [flag, str(value)]
    return words


def explain(error: Exception) -> str:
    """Return one line about `error`; one that was not raised on purpose, with its place."""
    if isinstance(error, BuswayError):
        return str(error)
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"{what} ({place_of(error)}); run again with --debug for the traceback"


def place_of(error: BaseException) -> str:
    """Return "file.py line 12": where `error` came about, in code that is not Busway's if any."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shorten(error.filename)} line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    foreign = [
        frame
        for frame in frames
        if not frame.filename.startswith("<") and not _is_own(Path(frame.filename))
    ]
    last = (foreign or frames)[-1]
    return f"{_shorten(last.filename)} line {last.lineno}"


def _is_own(file: Path) -> bool:
    """Tell whether `file` is Busway's; the demo is not: it is there to be edited."""
    return file.is_relative_to(_OWN) and not file.is_relative_to(_OWN / "demo")


def _shorten(filename: str) -> str:
    path = Path(filename)
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
