#!/usr/bin/env python3
"""Compare our models with golden outputs of the official implementations.

    python tools/check_parity.py tests/parity/cases/*

prints one row per compared array and exits 1 if any differs by more than the case's tolerance.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmdetr_plugin.testing import Case, check


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('cases', nargs='+', metavar='CASE_DIR')
    parser.add_argument('--quiet', action='store_true', help='print failures and totals only')
    args = parser.parse_args(argv)
    failed = 0
    for folder in args.cases:
        try:
            case = Case.load(folder)
            rows, absent = check(case)
        except FileNotFoundError as error:
            parser.error(str(error))
        wrong = [row for row in rows if not row.ok]
        failed += len(wrong)
        print(f'== {case.name}: {len(rows) - len(wrong)} of {len(rows)} arrays ok')
        for row in wrong if args.quiet else rows:
            print(f'  {row}')
        if absent:
            print(f'  not given by the model: {", ".join(absent)}')
    print('parity holds' if not failed else f'{failed} arrays differ')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
