"""The command `busway`, also `python -m busway`."""

import sys

_EXTRA = {"click", "rich", "uvicorn", "httptools", "uvloop", "websockets", "watchfiles"}
"""What `busway[server]` brings."""


def main() -> None:
    """Run the command line; without its libraries, say how to install them."""
    try:
        from busway.cli import busway  # noqa: PLC0415  (click may be missing)

        busway()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        sys.exit(f'busway: {missing} is not installed; run: pip install "busway[server]"')


if __name__ == "__main__":
    main()
