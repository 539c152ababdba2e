#!/usr/bin/env bash
# vsmtp.sh with twenty rules, for a comparison with itself and the other: see rules/.
RULES=20 exec "$(dirname "$0")/vsmtp.sh" "$@"
