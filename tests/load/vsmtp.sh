#!/usr/bin/env bash
# Start/stop a private vSMTP for tests/load/compare.py: release binaries, as root with separate users, sandbox on, log to a
# file, every message judged by the filter.
#   vsmtp.sh start MODE SMTP_PORT SINK_PORT   MODE: hold | relay | local | tls
#   vsmtp.sh resume                           the same instance again, on the spool that is there
#   vsmtp.sh queued                           prints how many messages are in the queue
#   vsmtp.sh stop                             leaves no process
# With RULES set, in the mode hold, twenty typical rules judge each message (see rules/).
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
bin=${VSMTP_BIN:-$here/target/release}
dir=${BENCH_DIR:-${TMPDIR:-/tmp}/bench/vsmtp}

launch() {
    setsid "$bin/vsmtp" --root "$dir" run >"$dir/stdout" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    port=$(cat "$dir/port")
    for _ in $(seq 200); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port" && read -r -t 5 line <&3 && [[ $line == 220* ]]) 2>/dev/null; then
            return 0
        fi
        kill -0 "$(cat "$dir/pid")" 2>/dev/null || break
        sleep 0.05
    done
    cat "$dir/stdout" >&2
    return 1
}

case $1 in
start)
    mode=$2 port=$3 sink=$4
    rm -rf "$dir"
    mkdir -p "$dir/etc/vsmtp" "$dir/var/log"
    # Maildirs lie by domain and user; the comparison looks for users directly below mail/.
    ln -s maildirs/local.test "$dir/mail"
    chmod 755 "$dir"
    echo "$port" >"$dir/port"
    tls=
    case $mode in
    hold | tls) domains='["mx.bench.test"]' relayhost='"[127.0.0.1]:'$sink'"' rules='rcpt: [ rule "hold everything" || state::quarantine("hold") ]' ;;
    relay) domains='["mx.bench.test"]' relayhost='"[127.0.0.1]:'$sink'"' rules='rcpt: [ rule "relay for loopback" || if ctx::client_ip() == "127.0.0.1" { state::next() } else { state::deny() } ]' ;;
    local) domains='["mx.bench.test", "local.test"]' relayhost='""' rules='rcpt: [ rule "loopback only" || if ctx::client_ip() == "127.0.0.1" { state::next() } else { state::deny() } ]' ;;
    *) echo "unknown mode $mode" >&2; exit 2 ;;
    esac
    if [ "$mode" = tls ]; then
        cp "$CERTIFICATE" "$dir/etc/vsmtp/mx.pem"
        install -m 600 "$KEY" "$dir/etc/vsmtp/mx.key"
        tls='config.server.tls.certificate = "mx.pem"; config.server.tls.private_key = "mx.key";'
    fi
    cat >"$dir/etc/vsmtp/vsmtp.vsl" <<VSL
fn on_config(config) {
    config.server.name = "mx.bench.test";
    config.server.domains = $domains;
    config.server.interfaces.addr = ["127.0.0.1:$port"];
    config.server.message_size_limit = 104857600;
    $tls
    config.server.logs.filename = "/var/log/vsmtp.log";
    config.delivery.mailboxes = ["*"];
    config.delivery.local = "maildir";
    config.delivery.mail_root = "/maildirs";
    config.delivery.relayhost = $relayhost;
    config
}
VSL
    printf '#{ %s }\n' "$rules" >"$dir/etc/vsmtp/filter.vsl"
    if [ -n "${RULES:-}" ]; then
        mkdir "$dir/etc/vsmtp/lists"
        "$here/tests/load/rules/lists.sh" "$dir/etc/vsmtp/lists"
        cp "$here/tests/load/rules/filter.vsl" "$dir/etc/vsmtp/filter.vsl"
    fi
    launch
    ;;
resume) launch ;;
queued) "$bin/vsmtpctl" --root "$dir" queue stats --json | sed -n 's/.*"messages": *\([0-9]*\).*/\1/p' | head -n 1 ;;
stop)
    [ -f "$dir/pid" ] || exit 0
    pid=$(cat "$dir/pid")
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    ;;
esac
