#!/usr/bin/env bash
# Made by jaxformer for --executor=skypilot; docs/first_tpu_run.md says more.
set -euo pipefail
CDPATH= cd -- "$(dirname -- "$0")"/../../..

case "${1:-}" in
start)
    sky jobs launch experiments/launch/big_skypilot/big-5a8c46.yaml --detach-run "${@:2}"
    ;;
watch)
    sky jobs logs --name big-5a8c46
    ;;
stop)
    failed=0
    sky jobs cancel --name big-5a8c46 "${@:2}" || failed=$?
    if [ "$failed" != 0 ]; then echo 'Not all could be ended, or some had ended before: sky jobs queue shows what is left.' >&2; fi
    exit "$failed"
    ;;
*)
    printf '%s\n' \
        'bash experiments/launch/big_skypilot/launch.sh start  asks for each job at its price, and starts it; --yes does not ask' \
        'bash experiments/launch/big_skypilot/launch.sh watch  shows what goes on' \
        'bash experiments/launch/big_skypilot/launch.sh stop   asks for each job, and ends it and what it pays for; --yes does not ask; `sky jobs queue` shows what is left' >&2
    exit 2
    ;;
esac
