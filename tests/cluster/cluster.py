#!/usr/bin/env python3
"""A one-node Kubernetes for the quickstart, the tests and the benchmarks. See README.md."""

import sys

if sys.version_info < (3, 9):
    sys.exit("cluster: this needs Python 3.9 or newer, and this is " + sys.version.split()[0])

# As root it would leave files in the checkout that its owner cannot delete.
sys.dont_write_bytecode = True

# Only now: the modules use what older versions do not know.
from verbs import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
