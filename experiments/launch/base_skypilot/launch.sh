#!/usr/bin/env bash
# Made by jaxformer for --executor=skypilot; docs/first_tpu_run.md says more.
set -euo pipefail
CDPATH= cd -- "$(dirname -- "$0")"/../../..

case "${1:-}" in
start)
    sky jobs launch experiments/launch/base_skypilot/base-4dba5f.yaml --detach-run "${@:2}"
    ;;
watch)
    sky jobs logs --name base-4dba5f
    ;;
stop)
    failed=0
    sky jobs cancel --name base-4dba5f "${@:2}" || failed=$?
    if [ "$failed" != 0 ]; then echo 'Not all could be ended, or some had ended before: sky jobs queue shows what is left.' >&2; fi
    exit "$failed"
    ;;
*)
    printf '%s\n' \
        'bash experiments/launch/base_skypilot/launch.sh start  asks for each job at its price, and starts it; --yes does not ask' \
        'bash experiments/launch/base_skypilot/launch.sh watch  shows what goes on' \
        'bash experiments/launch/base_skypilot/launch.sh stop   asks for each job, and ends it and what it pays for; --yes does not ask; `sky jobs queue` shows what is left' >&2
    exit 2
    ;;
esac
