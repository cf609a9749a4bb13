#!/bin/sh
# Prints the path of an mlflow program, making a virtual environment the first time (some minutes, 900 MB).
# Exits 1 with the reason on stderr when it cannot be had. CDL_MLFLOW names a program to use instead.
exec sh "$(dirname "$0")/python-program.sh" mlflow CDL_MLFLOW "${CDL_MLFLOW:-}" py-mlflow 'mlflow==3.17.2' mlflow mlflow
