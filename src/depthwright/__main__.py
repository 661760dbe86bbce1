"""`python -m depthwright` is the command `depthwright`."""

from depthwright.cli import main

main()
