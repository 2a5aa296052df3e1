"""Lists the commands, or runs one: ``python -m fmnist <command> key=value ...``, or ``fmnist <command> ...``.

Imports only the standard library, so that the list comes at once and ``doctor`` runs in a broken environment.
"""

import ast
import runpy
import sys
from pathlib import Path

from fmnist.runs.output import robust_output

NOT_COMMANDS = ("__init__", "__main__", "build")


def commands() -> dict[str, str]:
    """The first line of each command's docstring, by the command's name, without importing the commands."""
    paths = sorted(path for path in Path(__file__).parent.glob("*.py") if path.stem not in NOT_COMMANDS)
    docstrings = {path.stem: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for path in paths}
    return {name: docstring.partition("\n")[0].rstrip(".") for name, docstring in docstrings.items()}


def overview() -> str:
    """The help text: how to call a command, and a line for each."""
    lines = [f"  {name:<10} {line}" for name, line in commands().items()]
    usage = "usage: python -m fmnist <command> key=value ...   (<command> --help lists the keys)"
    return "\n".join([usage, "", *lines, "", "To train, run train.py."])


def main() -> None:
    """Runs the command that the first argument names; prints the list if there is none."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        with robust_output():
            print(overview())
        return
    if name not in commands():
        from fmnist.config.suggestion import did_you_mean

        sys.exit(f"error: no command '{name}'{did_you_mean(name, commands())} (commands: {', '.join(commands())})")
    del sys.argv[1]
    runpy.run_module(f"fmnist.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
