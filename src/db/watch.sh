#!/bin/sh
# watch.sh PIPE PID DATA: stops the embedded server when its last client is gone, however that client ended.
#
# Every client holds the writing end of PIPE open and has written its name into it; a name is acknowledged by making the
# file PIPE.NAME. The kernel closes a killed client's end too, and after the last one reading ends.
pipe=$1 pid=$2 data=$3
while read -r name; do : >"$pipe.$name"; done <"$pipe"
rm -f "$pipe"
# Only if it still is that server: it may have crashed, and its number may have been given to another process.
if read -r now <"$data/postmaster.pid" && [ "$now" = "$pid" ]; then
  if [ ! -e "/proc/$pid" ] || grep -qs postgres "/proc/$pid/cmdline"; then kill -INT "$pid"; fi
fi
