#!/usr/bin/env bash
# Ends the cluster of up.sh, and puts back what it changed. Run again it does nothing. Fails if something is left.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/plan.sh"

# Ends process 1 of the cluster's pid namespace, and so everything in it; only if it is still ours.
end_node() {
    local holder inner
    holder=$(cat "$run/holder.pid" 2>/dev/null) || return 0
    inner=$(cat "$run/node.pid" 2>/dev/null || pgrep --parent "$holder")
    if [ -n "$inner" ] && tr '\0' ' ' 2>/dev/null <"/proc/$inner/cmdline" | grep -F "$here/node.sh" >/dev/null; then
        kill -KILL "$inner"
    fi
    for _ in $(seq 100); do
        kill -0 "$holder" 2>/dev/null || return 0
        sleep 0.1
    done
    echo "process $holder does not end" >&2
    return 1
}

# A cgroup can be removed once its last process is gone, leaves first.
remove_cgroups() {
    local controller folder
    for controller in $controllers unified; do
        folder=/sys/fs/cgroup/$controller/$cgroup
        for _ in $(seq 50); do
            [ -d "$folder" ] || break
            find "$folder" -depth -type d -exec rmdir {} \; 2>/dev/null
            [ -d "$folder" ] && sleep 0.1
        done
        [ -d "$folder" ] && left+=("$folder")
    done
}

left=()
rm -rf "$run.buildah"
[ -e "$run" ] || exit 0
end_node || exit 1
ip link delete $wire 2>/dev/null
while read -r setting; do sysctl --quiet --write "$setting"; done <"$run/sysctls"
remove_cgroups
rm -rf "$run"
ip link show $wire >/dev/null 2>&1 && left+=("$wire")
[ -e "$run" ] && left+=("$run")
[ ${#left[@]} -eq 0 ] && exit 0
echo "left: ${left[*]}" >&2
exit 1
