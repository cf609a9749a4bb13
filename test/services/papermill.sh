#!/bin/sh
# Prints the path of a papermill program with a Python kernel beside it, making a virtual environment the first time (a minute,
# 100 MB). Exits 1 with the reason on stderr when it cannot be had. CDL_PAPERMILL names a program to use instead.
exec sh "$(dirname "$0")/python-program.sh" papermill CDL_PAPERMILL "${CDL_PAPERMILL:-}" py-papermill 'papermill==2.7.0 ipykernel==7.1.0' papermill papermill
