#!/bin/sh
# Prints a folder with Kubernetes' API as JSON Schemas, vMAJOR.MINOR.json for the oldest version that bot/kubernetes.yaml is
# for and the newest there is, taken once from the PyPI package kubernetes-validate (22 MB) into the cache.
# Exits 1 with the reason on stderr when it cannot be had.
set -eu
version=1.37.0

folder="${CDL_CACHE:-${HOME:?HOME is not set}/.cache/cdl}/kubernetes-schemas-$version"
if [ ! -d "$folder" ]; then
  command -v python3 >/dev/null 2>&1 || { echo 'kubernetes-schemas: python3 is not installed' >&2; exit 1; }
  mkdir -p "$(dirname "$folder")"
  work=$(mktemp -d "$folder.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$work" "kubernetes-validate==$version" >"$work/log" 2>&1; then
    echo 'kubernetes-schemas: pip could not download it:' >&2
    tail -n 5 "$work/log" >&2
    exit 1
  fi
  mkdir "$work/made"
  python3 - "$work" <<'EOF'
import pathlib, sys, zipfile
work = pathlib.Path(sys.argv[1])
(wheel,) = work.glob('*.whl')
with zipfile.ZipFile(wheel) as archive:
    for version in ('v1.27', 'v1.37'):
        name = f'kubernetes_validate/kubernetes-json-schema/{version}.0-local-strict/_definitions.json'
        (work / 'made' / f'{version}.json').write_bytes(archive.read(name))
EOF
  # Renamed into place whole.
  mv "$work/made" "$folder" 2>/dev/null || [ -d "$folder" ]
fi
echo "$folder"
