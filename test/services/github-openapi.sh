#!/usr/bin/env bash
# Prints the path of GitHub's published OpenAPI description, taken once from the npm package @octokit/openapi into the
# cache. It is not a dependency: the package weighs 385 MB, one file of it is needed.
set -euo pipefail

version=23.0.2
folder="${CDL_CACHE:-${HOME:?HOME is not set}/.cache/cdl}/github-openapi"
file="$folder/api.github.com-$version.json"
if [ ! -s "$file" ]; then
  mkdir -p "$folder"
  work=$(mktemp -d "$folder/pack.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  npm pack --silent --pack-destination "$work" "@octokit/openapi@$version" >/dev/null
  tar -xzf "$work"/*.tgz -C "$work" package/generated/api.github.com.json
  # Renamed into place whole: a copy cut short is never taken for the file.
  mv "$work/package/generated/api.github.com.json" "$file"
fi
echo "$file"
