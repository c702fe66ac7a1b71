#!/usr/bin/env bash
# Brings images into the running cluster: load.sh ARCHIVE...
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/plan.sh"
for archive in "$@"; do
    nsenter --target "$(cat "$run/node.pid")" --net --mount --pid \
        ctr --address "$cri" --namespace k8s.io images import "$(realpath "$archive")" >/dev/null
done
