#!/bin/sh
# Prints the path of a MinIO server, building it through the Go module proxy the first time (some minutes).
# Exits 1 with the reason on stderr when it cannot be had. CDL_MINIO names a binary to use instead.
set -eu
version=v0.0.0-20260212201848-7aac2a2c5b7c

if [ -n "${CDL_MINIO:-}" ]; then
  [ -x "$CDL_MINIO" ] || { echo "minio: CDL_MINIO=$CDL_MINIO cannot be executed" >&2; exit 1; }
  echo "$CDL_MINIO"
  exit 0
fi

bin="${CDL_CACHE:-${HOME:?HOME is not set}/.cache/cdl}/bin"
if [ ! -x "$bin/minio" ]; then
  command -v go >/dev/null 2>&1 || { echo 'minio: Go is not installed, so it cannot be built' >&2; exit 1; }
  mkdir -p "$bin"
  work=$(mktemp -d "$bin/build.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  echo "minio: building $version (once; some minutes)" >&2
  if ! CGO_ENABLED=0 GOBIN="$work" nice go install -p 2 -trimpath -ldflags='-s -w' "github.com/minio/minio@$version" >"$work/log" 2>&1; then
    echo 'minio: the build failed:' >&2
    tail -n 20 "$work/log" >&2
    exit 1
  fi
  # Renamed into place whole: a build killed half-way is never mistaken for a server.
  mv "$work/minio" "$bin/minio"
fi
echo "$bin/minio"
