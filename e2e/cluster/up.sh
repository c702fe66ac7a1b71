#!/usr/bin/env bash
# Brings up one node of real Kubernetes in namespaces of its own (net, mount, pid); down.sh ends it, and so does the death of one process.
#
# Outside there are only one wire with its routes, a cgroup folder in each hierarchy, and $run.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/plan.sh"

begun=$(date +%s%N)
say() { printf '%5d ms  %s\n' $((($(date +%s%N) - begun) / 1000000)) "$*"; }

api_is_ready() { curl --silent --fail --cacert "$run/pki/ca.crt" "https://$node4:6443/readyz"; }
namespace_is_made() { [ -e "$run/namespace.ready" ]; }

if [ -e "$run" ]; then
    echo "$run is there: a cluster is up, or was left behind; end it with down.sh" >&2
    exit 1
fi
mkdir -p "$run/logs"
for name in $sysctls; do echo "$name=$(sysctl -n "$name")"; done >"$run/sysctls"
# A failed start leaves nothing, but for the logs that say why.
trap 'code=$?; [ $code -eq 0 ] || { cp -r "$run/logs" "$cache/failed-logs.$$" 2>/dev/null && echo "logs: $cache/failed-logs.$$" >&2; "$here/down.sh"; }' EXIT

tools pki -folder "$run/pki" -server "https://$node4:6443" -node $node \
    -server-names "127.0.0.1,$node4,$node6,10.96.0.1,fd00:10:96::1" -node-names "127.0.0.1,$node4,$node6"
say "certificates"

for controller in $controllers; do
    [ -d "/sys/fs/cgroup/$controller" ] && mkdir -p "/sys/fs/cgroup/$controller/$cgroup/system"
done
for file in cpuset.cpus cpuset.mems; do
    for folder in "$cgroup" "$cgroup/system"; do
        cat "/sys/fs/cgroup/cpuset/$file" >"/sys/fs/cgroup/cpuset/$folder/$file"
    done
done
# The daemons share one cgroup path in every hierarchy, or the kubelet calls them not unified.
setsid bash -c '
    for controller in '"$controllers"'; do
        [ -d /sys/fs/cgroup/$controller ] && echo $$ >/sys/fs/cgroup/$controller/'"$cgroup"'/system/cgroup.procs
    done
    exec "$@"' _ \
    unshare --net --mount --pid --fork --kill-child=KILL --mount-proc bash "$here/node.sh" >"$run/logs/node.log" 2>&1 </dev/null &
echo $! >"$run/holder.pid"
until_true 10 "the namespaces are made" namespace_is_made
inner=$(pgrep --parent "$(cat "$run/holder.pid")")
echo "$inner" >"$run/node.pid"

ip link add $wire type veth peer name eth0 netns "$inner"
ip address add $host4/24 dev $wire
ip -6 address add $host6/64 dev $wire nodad
ip link set $wire up
for net in $pods4 $services4; do ip route add $net via $node4 dev $wire; done
for net in $pods6 $services6; do ip -6 route add $net via $node6 dev $wire; done
touch "$run/wire.ready"

until_true 60 "the API server is ready" api_is_ready
say "API server ready"
export KUBECONFIG=$run/pki/admin.conf
until_true 30 "CoreDNS is taken" kubectl apply --filename "$here/manifests/coredns.yaml"
until_true 60 "the node is known" kubectl get node $node
kubectl wait --for=condition=Ready "node/$node" --timeout=120s >/dev/null
say "node ready"
kubectl --namespace kube-system wait --for=condition=Available deployment/coredns --timeout=120s >/dev/null
say "names resolve; export KUBECONFIG=$KUBECONFIG"
