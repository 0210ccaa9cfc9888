"""Fuzz everything that reads bytes from outside.

    python -m tests.fuzz --seconds 300
    python -m tests.fuzz --target envelope-request --seconds 30
    python -m tests.fuzz --target envelope-request --input .fuzz/envelope-request-crash-...      one input again

Exit codes: 0 nothing was found, 1 something was, 2 wrong use.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.campaign import fuzz_all, table
from tests.fuzz.engine import ENGINES
from tests.fuzz.target import Target, judged

__all__ = ["main"]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz everything that reads bytes.")
    parser.add_argument("--seconds", type=float, default=300.0, help="for all targets together (300)")
    parser.add_argument("--target", action="append", help="only this one; may be given several times")
    parser.add_argument("--input", type=Path, help="run one kept input of the one target")
    parser.add_argument("--kept", type=Path, default=Path(".fuzz"), help="folder for the inputs of findings (.fuzz)")
    parser.add_argument("--engine", choices=ENGINES, default="atheris", help="mutations needs no atheris")
    parser.add_argument("--workers", type=int, help="processes at a time (one for each processor)")
    parser.add_argument("--module", default="tests.fuzz.targets", help="where the targets are")
    options = parser.parse_args(arguments)
    if options.input is not None:
        options.engine = "mutations"  # one input needs no engine: its import is not watched
    if options.engine == "atheris" and importlib.util.find_spec("atheris") is None:
        parser.error("--engine: atheris is not installed (pip install -e '.[fuzz]'); 'mutations' does without it")
    with ENGINES[options.engine].watching():
        module = importlib.import_module(options.module)
    options.targets = _chosen(module.TARGETS, options.target, parser)
    if options.input is not None and len(options.targets) != 1:
        parser.error("--input: give the one --target that it is for")
    return options


def _chosen(targets: Sequence[Target], names: Sequence[str] | None, parser: argparse.ArgumentParser) -> list[Target]:
    unknown = set(names or ()) - {each.name for each in targets}
    if unknown:
        parser.error(f"--target: there is no {min(unknown)}; there are {', '.join(each.name for each in targets)}")
    chosen = [each for each in targets if not names or each.name in names]
    for each in chosen:
        missing = [name for name in each.packages if importlib.util.find_spec(name) is None]
        missing += [name for name in each.programs if shutil.which(name) is None]
        if missing:
            parser.error(f"{each.name} needs {', '.join(missing)}; install it, or name other targets with --target")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz as told; return the exit code."""
    began = time.time()
    options = _options(arguments)
    if options.input is not None:
        (target,) = options.targets
        with target.place() as place:
            accepted = judged(target.prepare(place))(options.input.read_bytes())
        print("accepted" if accepted else "refused, as documented")
        return 0
    outcomes = fuzz_all(
        options.targets,
        ENGINES[options.engine],
        ends=began + options.seconds,
        kept=options.kept,
        workers=options.workers,
    )
    bad = [each for each in outcomes if each.failed or each.found]
    for each in bad:
        print(f"--- {each.name}\n{each.output}")
        for file in each.found:
            print(f"--- again: python -m tests.fuzz --module {options.module} --target {each.name} --input {file}")
    print(table(outcomes))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
