#!/usr/bin/env bash
# Process 1 of the node: mounts, network, the settings of each daemon, the daemons. Started by up.sh in new namespaces.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/plan.sh"

pki=$run/pki

# Waits for what up.sh or a daemon is to bring; without it the node ends, and all of it.
needed() { until_true 120 "$@" || exit 1; } # needed WHAT COMMAND...

# The daemons write below /run, /var/lib and /var/log: none of it is the machine's.
private_folders() {
    mount --make-rshared /
    mount -t tmpfs tmpfs /run
    mkdir -p /run/lock /run/netns /run/containerd
    mkdir -p "$run/log" "$run/kubelet" "$run/containerd"
    mount --bind "$run/log" /var/log
    mount -t tmpfs tmpfs /var/lib
    mkdir -p /var/lib/kubelet /var/lib/containerd /var/lib/cni
    mount --bind "$run/kubelet" /var/lib/kubelet
    mount --bind "$run/containerd" /var/lib/containerd
    ulimit -n "$(ulimit -Hn)"
}

network() {
    touch "$run/namespace.ready"
    needed "the wire is there" test -e "$run/wire.ready"
    ip link set lo up
    ip address add $node4/24 dev eth0
    ip -6 address add $node6/64 dev eth0 nodad
    ip link set eth0 up
    # Without a default route the node's own calls to a Service fail before they are translated.
    ip route add default via $host4
    ip -6 route add default via $host6
    sysctl --quiet --write net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
        net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
    echo "nameserver 127.0.0.1" >"$run/resolv.conf"
}

containerd_settings() {
    cat <<SETTINGS
version = 2
root = "/var/lib/containerd"
state = "/run/containerd/state"
# Lowering it is not allowed everywhere, not even to root.
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "$cri"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.local/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$run/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
SETTINGS
}

network_plugin_settings() {
    cat <<SETTINGS
{"cniVersion": "0.4.0", "name": "weir", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}], [{"subnet": "$pods6"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
SETTINGS
}

kubelet_settings() {
    cat <<SETTINGS
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$cri
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
failSwapOn: false
failCgroupV1: false
oomScoreAdj: 0
maxOpenFiles: 20000
enforceNodeAllocatable: []
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}
imageGCHighThresholdPercent: 100
clusterDNS: ["$dns4"]
clusterDomain: cluster.local
resolvConf: $run/resolv.conf
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet-server.crt
tlsPrivateKeyFile: $pki/kubelet-server.key
serializeImagePulls: false
nodeStatusUpdateFrequency: 5s
# ConfigMaps reach pods within this, and no test waits a minute for one.
syncFrequency: 10s
configMapAndSecretChangeDetectionStrategy: Watch
kubeAPIQPS: 500
kubeAPIBurst: 1000
maxPods: 250
volumePluginDir: /var/lib/kubelet/volumeplugins
SETTINGS
}

kube_proxy_settings() {
    cat <<SETTINGS
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ${WEIR_CLUSTER_PROXY_MODE:-nftables}
clientConnection: {kubeconfig: $pki/kube-proxy.conf}
clusterCIDR: $pods4,$pods6
hostnameOverride: $node
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpCloseWaitTimeout: 0s, tcpEstablishedTimeout: 0s}
iptables: {minSyncPeriod: 0s, localhostNodePorts: false}
nftables: {minSyncPeriod: 0s}
SETTINGS
}

start() { # start NAME ARGUMENT...
    local name=$1
    shift
    "$name" "$@" >"$run/logs/$name.log" 2>&1 </dev/null &
}

control_plane() {
    start etcd --name $node --data-dir "$run/etcd" --unsafe-no-fsync \
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
        --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
        --initial-cluster $node=http://127.0.0.1:2380
    # Webhooks are called at their endpoints: no race with kube-proxy.
    start kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --advertise-address=$node4 \
        --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
        --kubelet-client-certificate="$pki/apiserver-kubelet.crt" --kubelet-client-key="$pki/apiserver-kubelet.key" \
        --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
        --service-account-key-file="$pki/service-account.pub" --service-account-signing-key-file="$pki/service-account.key" \
        --service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range=$services4,$services6 \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
        --enable-aggregator-routing=true --profiling=false \
        --requestheader-client-ca-file="$pki/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy \
        --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
        --requestheader-extra-headers-prefix=X-Remote-Extra- \
        --proxy-client-cert-file="$pki/front-proxy.crt" --proxy-client-key-file="$pki/front-proxy.key"
}

import_images() {
    local archive
    needed "containerd answers" ctr --address "$cri" version
    for archive in "$images"/{pause,coredns}.tar; do
        ctr --address "$cri" --namespace k8s.io images import "$archive" >/dev/null
    done
}

private_folders
network
mkdir -p "$run/cni"
containerd_settings >"$run/containerd.toml"
network_plugin_settings >"$run/cni/10-weir.conflist"
kubelet_settings >"$run/kubelet.yaml"
kube_proxy_settings >"$run/kube-proxy.yaml"
control_plane
start containerd --config "$run/containerd.toml"
import_images
needed "the API server is ready" curl --silent --fail --cacert "$pki/ca.crt" https://$node4:6443/readyz
start kube-controller-manager --kubeconfig="$pki/controller-manager.conf" --authentication-kubeconfig="$pki/controller-manager.conf" \
    --authorization-kubeconfig="$pki/controller-manager.conf" --leader-elect=false --bind-address=127.0.0.1 \
    --use-service-account-credentials=true --service-account-private-key-file="$pki/service-account.key" \
    --root-ca-file="$pki/ca.crt" --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
    --cluster-cidr=$pods4,$pods6 --allocate-node-cidrs=false --profiling=false --kube-api-qps=500 --kube-api-burst=1000 \
    --flex-volume-plugin-dir=/var/lib/kubelet/volumeplugins
start kube-scheduler --kubeconfig="$pki/scheduler.conf" --authentication-kubeconfig="$pki/scheduler.conf" \
    --authorization-kubeconfig="$pki/scheduler.conf" --leader-elect=false --bind-address=127.0.0.1 --profiling=false \
    --kube-api-qps=500 --kube-api-burst=1000
start kubelet --kubeconfig="$pki/kubelet.conf" --config="$run/kubelet.yaml" --hostname-override=$node --node-ip=$node4,$node6
start kube-proxy --config="$run/kube-proxy.yaml"
# As process 1 it reaps what its children leave behind.
trap 'exit 0' TERM
while :; do
    sleep 3600 &
    wait $!
done
