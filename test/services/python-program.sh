#!/bin/sh
# python-program.sh NAME VARIABLE GIVEN FOLDER REQUIREMENT MARK ANSWER: prints the path of a program of a virtual environment,
# which is made in the cache the first time. REQUIREMENT may be several, separated by spaces. GIVEN, what VARIABLE holds, is a program to use instead when it is not empty. The
# environment counts as made when it has the program MARK; ANSWER is the one that is printed. Exits 1 with the reason on
# stderr when it cannot be had.
set -eu
name=$1 variable=$2 given=$3 folder=$4 requirement=$5 mark=$6 answer=$7

if [ -n "$given" ]; then
  [ -x "$given" ] || { echo "$name: $variable=$given cannot be executed" >&2; exit 1; }
  echo "$given"
  exit 0
fi

cache="${CDL_CACHE:-${HOME:?HOME is not set}/.cache/cdl}"
place="$cache/$folder"
if [ ! -x "$place/bin/$mark" ]; then
  command -v python3 >/dev/null 2>&1 || { echo "$name: python3 is not installed" >&2; exit 1; }
  echo "$name: installing (once; some minutes)" >&2
  if ! { python3 -m venv "$place" && nice "$place/bin/pip" install --quiet --disable-pip-version-check $requirement; } >"$cache/$name.log" 2>&1; then
    echo "$name: the installation failed:" >&2
    tail -n 20 "$cache/$name.log" >&2
    exit 1
  fi
fi
echo "$place/bin/$answer"
