#!/usr/bin/env bash
# Makes the lists that the twenty rules look into, the same for both servers: a thousand rows each, none of which is met.
#   lists.sh FOLDER
set -eu
cd "$1"
for n in $(seq 0 999); do echo "198.$((18 + n / 256)).$((n % 256)).0/24 REJECT"; done >networks.cidr
for n in $(seq 0 999); do echo "sender$n@listed.example REJECT"; done >senders
for n in $(seq 0 999); do echo "rcpt$n@listed.example REJECT"; done >recipients
for n in $(seq 0 999); do echo "domain$n.example REJECT"; done >domains
