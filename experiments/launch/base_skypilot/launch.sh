#!/usr/bin/env bash
# Made by jaxformer for --executor=skypilot; docs/first_tpu_run.md says more.
set -euo pipefail
cd "$(dirname "$0")"/../../..

case "${1:-}" in
start)
    sky jobs launch experiments/launch/base_skypilot/base-4dba5f.yaml --detach-run "${@:2}"
    ;;
watch)
    sky jobs logs --name base-4dba5f
    ;;
stop)
    sky jobs cancel --name base-4dba5f "${@:2}" || true
    ;;
*)
    printf '%s\n' \
        'bash experiments/launch/base_skypilot/launch.sh start  asks for each job at its price, and starts it; --yes does not ask' \
        'bash experiments/launch/base_skypilot/launch.sh watch  shows what goes on' \
        'bash experiments/launch/base_skypilot/launch.sh stop   asks for each job, and ends it and what it pays for; --yes does not ask' >&2
    exit 2
    ;;
esac
