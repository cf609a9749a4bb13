#!/bin/sh
# Prints the path of a Python that has Ray with its job server, making a virtual environment the first time (some minutes, 400
# MB). Exits 1 with the reason on stderr when it cannot be had. CDL_RAY names a Python to use instead.
exec sh "$(dirname "$0")/python-program.sh" ray CDL_RAY "${CDL_RAY:-}" py-ray 'ray[default]==2.60.0' ray python
