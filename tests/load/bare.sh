#!/bin/bash
# The yardstick for TLS: a server of the same library that says yes to everything and stores nothing (tls/bare.rs).
# BARE_OPTIONS are options of it.
here=$(cd "$(dirname "$0")/../.." && pwd)
case $1 in
start)
  [ "$2" = tls ] || { echo "tls only" >&2; exit 2; }
  setsid "${TLS_TOOL:-$here/target/release/examples/tls}" bare --certificate "$CERTIFICATE" --key "$KEY" ${BARE_OPTIONS:-} "127.0.0.1:$3" >/dev/null 2>&1 </dev/null &
  echo $! > "${TMPDIR:-/tmp}/bench-bare.pid" ;;
resume|queued) : ;;
stop) kill "$(cat "${TMPDIR:-/tmp}/bench-bare.pid")" 2>/dev/null; true ;;
esac
