#!/usr/bin/env bash
# postfix.sh with twenty rules, for a comparison with itself and the other: see rules/.
RULES=20 exec "$(dirname "$0")/postfix.sh" "$@"
