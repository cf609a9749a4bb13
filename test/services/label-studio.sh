#!/bin/sh
# Prints the path of a Python that has Label Studio, making a virtual environment the first time (some minutes).
# Exits 1 with the reason on stderr when it cannot be had. CDL_LABEL_STUDIO names a Python to use instead.
set -eu

if [ -n "${CDL_LABEL_STUDIO:-}" ]; then
  [ -x "$CDL_LABEL_STUDIO" ] || { echo "label-studio: CDL_LABEL_STUDIO=$CDL_LABEL_STUDIO cannot be executed" >&2; exit 1; }
  echo "$CDL_LABEL_STUDIO"
  exit 0
fi

cache="${CDL_CACHE:-${HOME:?HOME is not set}/.cache/cdl}"
place="$cache/py-labelstudio"
if [ ! -x "$place/bin/label-studio" ]; then
  command -v python3 >/dev/null 2>&1 || { echo 'label-studio: python3 is not installed' >&2; exit 1; }
  echo 'label-studio: installing (once; some minutes)' >&2
  if ! { python3 -m venv "$place" && nice "$place/bin/pip" install --quiet --disable-pip-version-check 'label-studio==1.23.2'; } >"$cache/label-studio.log" 2>&1; then
    echo 'label-studio: the installation failed:' >&2
    tail -n 20 "$cache/label-studio.log" >&2
    exit 1
  fi
fi
echo "$place/bin/python"
