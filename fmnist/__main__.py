"""Lists the commands, or runs one: ``python -m fmnist <command> key=value ...``, or ``fmnist <command> ...``.

Imports only the standard library, so that the list comes at once and ``doctor`` runs in a broken environment.
"""

import ast
import runpy
import sys
from pathlib import Path

from fmnist.config.paths import PACKAGE, TRAIN
from fmnist.runs.output import robust_output

NOT_COMMANDS = ("__init__", "__main__", "build", "build_network")


def commands() -> dict[str, str]:
    """The first line of each command's docstring, by the command's name, without importing the commands."""
    paths = {path.stem: path for path in (TRAIN, *PACKAGE.glob("*.py")) if path.stem not in NOT_COMMANDS}
    docstrings = {name: ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "" for name, path in paths.items()}
    return {name: docstring.partition("\n")[0].rstrip(".") for name, docstring in sorted(docstrings.items())}


def overview() -> str:
    """The help text: how to call a command, and a line for each."""
    lines = [f"  {name:<10} {line}" for name, line in commands().items()]
    usage = "usage: python -m fmnist <command> key=value ...   (<command> --help lists the keys)"
    return "\n".join([usage, "", *lines])


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
    sys.path.append(str(Path.cwd()))  # own networks and data sets; `python -m` has it, an installed `fmnist` has not
    if name == "train":
        runpy.run_path(str(TRAIN), run_name="__main__")
    else:
        runpy.run_module(f"fmnist.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
