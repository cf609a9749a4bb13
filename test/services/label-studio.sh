#!/bin/sh
# Prints the path of a Python that has Label Studio, making a virtual environment the first time (some minutes).
# Exits 1 with the reason on stderr when it cannot be had. CDL_LABEL_STUDIO names a Python to use instead.
exec sh "$(dirname "$0")/python-program.sh" label-studio CDL_LABEL_STUDIO "${CDL_LABEL_STUDIO:-}" py-labelstudio 'label-studio==1.23.2' label-studio python
