#!/bin/sh
# Prints the path of an mlflow program, making a virtual environment the first time (some minutes, 900 MB).
# Exits 1 with the reason on stderr when it cannot be had. CDL_MLFLOW names a program to use instead.
set -eu

if [ -n "${CDL_MLFLOW:-}" ]; then
  [ -x "$CDL_MLFLOW" ] || { echo "mlflow: CDL_MLFLOW=$CDL_MLFLOW cannot be executed" >&2; exit 1; }
  echo "$CDL_MLFLOW"
  exit 0
fi

cache="${CDL_CACHE:-${HOME:?HOME is not set}/.cache/cdl}"
place="$cache/py-mlflow"
if [ ! -x "$place/bin/mlflow" ]; then
  command -v python3 >/dev/null 2>&1 || { echo 'mlflow: python3 is not installed' >&2; exit 1; }
  echo 'mlflow: installing (once; some minutes)' >&2
  if ! { python3 -m venv "$place" && nice "$place/bin/pip" install --quiet --disable-pip-version-check 'mlflow==3.17.2'; } >"$cache/mlflow.log" 2>&1; then
    echo 'mlflow: the installation failed:' >&2
    tail -n 20 "$cache/mlflow.log" >&2
    exit 1
  fi
fi
echo "$place/bin/mlflow"
