#!/bin/sh
# postgres.sh FOLDER: starts a throwaway PostgreSQL 15 of Debian in FOLDER (which must not exist yet) and prints its url.
# postgres.sh FOLDER stop: stops it and removes FOLDER. Exits 1 with the reason on stderr when there is none.
# CDL_POSTGRES_BIN names another folder of binaries.
set -eu
bin=${CDL_POSTGRES_BIN:-/usr/lib/postgresql/15/bin}
folder=${1:?usage: postgres.sh FOLDER [stop]}
[ -x "$bin/initdb" ] || { echo "postgres: $bin/initdb is not there" >&2; exit 1; }

# PostgreSQL refuses to run as root.
as() { "$@"; }
if [ "$(id -u)" = 0 ]; then
  user=$(id -un postgres 2>/dev/null || echo nobody)
  as() { setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups "$@"; }
fi

if [ "${2:-}" = stop ]; then
  as "$bin/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null
  rm -rf "$folder"
  exit 0
fi

mkdir "$folder"
[ "$(id -u)" != 0 ] || chown "$user" "$folder"
cd "$folder"
echo secret >"$folder/password"
chmod 644 "$folder/password"
as "$bin/initdb" -D "$folder/data" -U cdl -E UTF8 --locale=C --auth=scram-sha-256 --pwfile="$folder/password" --no-sync >"$folder/initdb.log" 2>&1 ||
  { cat "$folder/initdb.log" >&2; exit 1; }
# On a socket alone there is no port to find.
as "$bin/pg_ctl" -D "$folder/data" -l "$folder/data/log" -w -o "-c listen_addresses= -c fsync=off -k $folder" start >/dev/null ||
  { cat "$folder/data/log" >&2; exit 1; }
encoded=$(printf %s "$folder" | sed 's,/,%2F,g')
echo "postgresql://cdl:secret@$encoded/postgres"
