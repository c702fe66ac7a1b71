# What is injected and what the chart renders: by Kubernetes' own schemas, by real Helm, and by Prometheus' promtool. Read by .ci/run.

# The program that checks manifests by Kubernetes' own schemas, which it brings along.
kubernetes_validate() {
    local venv=target/kubernetes-validate
    [ -x "$venv/bin/kubernetes-validate" ] && return 0
    python3 -m venv "$venv" >"$logs/pip.log" 2>&1 &&
        "$venv/bin/pip" install --quiet --disable-pip-version-check 'kubernetes-validate>=1.37,<2' >>"$logs/pip.log" 2>&1 || {
        tail -5 "$logs/pip.log"
        return 1
    }
}

# What injected pods look like, by the schemas of the oldest Kubernetes with native sidecars and of the newest.
injected_manifests() {
    local version
    kubernetes_validate || { skip injected-manifests "kubernetes-validate cannot be installed"; return; }
    for version in 1.29 1.30 1.31 1.32 1.33 1.34 1.35 1.36 1.37; do
        target/kubernetes-validate/bin/kubernetes-validate -k "$version" --strict --quiet \
            k8s/tests/injected/*.yaml k8s/tests/injected/*.json examples/kubernetes/*.yaml
    done
    echo "injected manifests and examples are valid"
}

# Real Helm, made as the cluster's tests have it.
real_helm() { # real_helm MAJOR
    [ -x "target/helm/bin/helm$1" ] && return
    has go || { echo "neither target/helm/bin/helm$1 nor Go is there"; return 1; }
    WEIR_CLUSTER_CACHE=$PWD/target/helm e2e/cluster/build.sh "helm$1" >"$logs/helm$1.log" 2>&1 || { tail -5 "$logs/helm$1.log"; return 1; }
}

# Values that change what is rendered.
chart_cases() {
    cat <<'CASES'
--set certs.mode=self
--set certs.mode=self,injector.networkPolicy.enabled=true --set injector.extraEnv[0].name=A,injector.extraEnv[0].value=b
--set certs.mode=helm
--set certs.mode=certManager --api-versions cert-manager.io/v1
--set certs.mode=existing,certs.existing.secretName=mine,certs.existing.caBundle=Q0E=
--values helm/weir/values-ha.yaml
--set injector.replicas=1,injector.failurePolicy=Ignore,injector.networkPolicy.enabled=true
--set otlp.endpoint=http://otel:4317,otlp.protocol=grpc,proxy.options.trace-sample-ratio=0.1,imagePullSecrets={a}
--set image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000
--set proxy.options.mode=observe,nameOverride=mesh,commonLabels.team=platform
--set proxy.options.interception=verify
--set fullnameOverride=edge,injector.podDisruptionBudget.enabled=false,injector.topologySpread=false
--set monitoring.podMonitor=true,monitoring.prometheusRule=true,monitoring.disabledAlerts={WeirSpansDropped}
--set monitoring.serviceMonitor=true,monitoring.dashboards.enabled=true,monitoring.dashboards.annotations.grafana_folder=mesh
--values k8s/tests/chart/full.yaml
CASES
}

# What must not pass, and what is to be said of it: where it stands, and what is wrong.
chart_refusals() {
    cat <<'CASES'
injector.replica=3                                  '/injector': additional properties 'replica'
proxy.options.skip-ports=3306                       '/proxy/options': additional properties 'skip-ports'
injector.failurePolicy=fail                         '/injector/failurePolicy': value must be one of 'Fail', 'Ignore'
certs.mode=own                                      '/certs/mode': value must be one of 'self'
image.digest=latest                                 '/image/digest': 'latest' does not match pattern
proxy.options.mode=watch                            '/proxy/options/mode': value must be one of 'enforce'
proxy.extraEnv[0].valu=a                            '/proxy/extraEnv/0': additional properties 'valu'
injector.tolerations[0].ky=a                        '/injector/tolerations/0': additional properties 'ky'
injector.affinity.podAfinity.a=b                    '/injector/affinity': additional properties 'podAfinity'
injector.resources.limit.cpu=1                      '/injector/resources': additional properties 'limit'
injector.networkPolicy.metricsFrom[0].selector=a    '/injector/networkPolicy/metricsFrom/0': additional properties 'selector'
monitoring.interval=soon                            '/monitoring/interval': 'soon' does not match pattern
monitoring.dashboards.enable=true                   '/monitoring/dashboards': additional properties 'enable'
monitoring.prometheusRule=true,monitoring.disabledAlerts={WeirSpansDroppd} there is no alert WeirSpansDroppd; there are WeirShedding
CASES
}

chart() { # chart MAJOR
    local helm=target/helm/bin/helm$1 version case rendered settings own
    local injector=target/debug/weir-injector
    "$helm" lint --strict --quiet helm/weir
    for version in 1.29 1.37; do
        own=()
        while read -r case; do
            rendered=target/helm/rendered-${#own[@]}.yaml
            # shellcheck disable=SC2086 # the cases are several words
            "$helm" template weir helm/weir --namespace weir-system --kube-version "$version.0" $case >"$rendered"
            # Of kinds that Kubernetes does not bring itself there is no schema here.
            awk 'BEGIN { RS = "---\n"; ORS = "---\n" } !/apiVersion: (cert-manager|monitoring)/' "$rendered" >"$rendered.own"
            own+=("$rendered.own")
            # GitOps tools render again and again, and must find the same; only Helm's own certificates are random.
            case $case in
            *certs.mode=helm*) ;;
            *)
                # shellcheck disable=SC2086 # the cases are several words
                "$helm" template weir helm/weir --namespace weir-system --kube-version "$version.0" $case | cmp - "$rendered"
                ;;
            esac
            # The injector takes the settings that the chart writes.
            settings=target/helm/settings.yaml
            awk '/^  settings.yaml: [|]/ { on = 1; next } on && /^[^ ]/ { on = 0 } on' "$rendered" >"$settings"
            "$injector" inject --config "$settings" --file k8s/tests/manifests/deployment.yaml >/dev/null 2>"$logs/inject.log" ||
                { cat "$logs/inject.log"; return 1; }
        done < <(chart_cases)
        target/kubernetes-validate/bin/kubernetes-validate -k "$version" --strict --quiet "${own[@]}"
    done
    while read -r case said; do
        if "$helm" template weir helm/weir --kube-version 1.37.0 --set "$case" >"$logs/refused.log" 2>&1; then
            echo "the chart takes $case"
            return 1
        fi
        grep --fixed-strings "$said" "$logs/refused.log" >/dev/null || { echo "$case is refused otherwise:"; cat "$logs/refused.log"; return 1; }
    done < <(chart_refusals)
    snapshot "$helm" rendered-by-default
    snapshot "$helm" rendered --values k8s/tests/chart/full.yaml
    if "$helm" template weir helm/weir --kube-version 1.28.0 >"$logs/refused.log" 2>&1; then
        echo "the chart puts native sidecars into a Kubernetes that has none"
        return 1
    fi
    "$helm" template weir helm/weir --kube-version 1.28.0 --set proxy.options.native=false >/dev/null
    echo "the chart is right by Helm $1"
}

# What is rendered, sorted: each Helm has an order and blank lines of its own. UPDATE_EXPECT=1 writes it anew.
snapshot() { # snapshot HELM NAME [ARGUMENT]...
    local helm=$1 known=k8s/tests/chart/$2.yaml rendered=target/helm/$2.yaml
    shift 2
    "$helm" template weir helm/weir --namespace weir-system --kube-version 1.33.0 "$@" |
        python3 -c 'import sys; print("---\n".join(sorted(part.strip("\n") + "\n" for part in sys.stdin.read().split("---\n"))), end="")' >"$rendered"
    [ -z "${UPDATE_EXPECT:-}" ] || cp "$rendered" "$known"
    diff -u "$known" "$rendered"
}

# What Prometheus makes of it: alerts that fire when they should, labels of pods, pages and expressions that it can read.
monitoring() { # monitoring HELM
    local folder=target/helm/monitoring page
    mkdir -p "$folder"
    "$1" template weir helm/weir --set monitoring.podMonitor=true,monitoring.serviceMonitor=true,monitoring.prometheusRule=true >"$folder/all.yaml"
    awk '/^kind: PrometheusRule/ { on = 1 } /^---/ { on = 0 } on && spec { print substr($0, 3) } on && /^spec:/ { spec = 1 }' \
        "$folder/all.yaml" >"$folder/rules.yaml"
    promtool check rules "$folder/rules.yaml"
    sed 's/^rule_files:.*/rule_files: [rules.yaml]/' k8s/tests/alerts.yaml >"$folder/alerts.yaml"
    promtool test rules "$folder/alerts.yaml"
    relabelings "$folder"
    WEIR_E2E_MONITORING_DIR="$PWD/$folder" tests monitoring test --workspace --test monitoring
    promtool check rules "$folder/dashboards.yaml"
    for page in weir weir-injector; do
        as_prometheus_text <"$folder/$page.txt" | promtool check metrics
    done
    echo "alerts, dashboards and metrics are right by promtool"
}

# What the PodMonitor's relabelings make of discovered pods.
relabelings() { # relabelings FOLDER
    {
        printf 'scrape_configs:\n- job_name: pods\n  relabel_configs:\n'
        awk '/^kind: PodMonitor/ { on = 1 } on && rules && !/^    / { exit } on && rules { print substr($0, 3) } on && /^    relabelings:/ { rules = 1 }' \
            "$1/all.yaml" | sed 's/sourceLabels/source_labels/; s/targetLabel/target_label/'
        printf '  static_configs:\n'
        sed 's/^/  /' k8s/tests/chart/pods.yaml
    } >"$1/pods.yaml"
    promtool check service-discovery --timeout=1s "$1/pods.yaml" pods >"$1/pods.json"
    python3 - "$1/pods.json" <<'PYTHON'
import json, sys
pods = json.load(open(sys.argv[1]))
for pod in pods:
    expected, labels = pod["discoveredLabels"]["expected"], pod.get("labels") or {}
    found = "/".join(labels[name] for name in ("namespace", "pod", "workload")) if labels else "none"
    assert found == expected and labels.get("job", "weir-proxy") == "weir-proxy", (expected, labels)
assert len(pods) == 8, len(pods)
PYTHON
}

# promtool reads Prometheus' own text format: there a counter's name ends with _total in its description too.
as_prometheus_text() {
    awk '
        /^# HELP / { help = $0; next }
        /^# TYPE / {
            name = $3 ($4 == "counter" ? "_total" : $4 == "info" ? "_info" : "")
            print "# HELP " name substr(help, length("# HELP " $3) + 1)
            print "# TYPE " name " " ($4 == "info" ? "gauge" : $4)
            next
        }
        /^# (UNIT|EOF)/ { next }
        { print }'
}

step_helm() {
    local major helm=
    injected_manifests
    [ -x target/kubernetes-validate/bin/kubernetes-validate ] || { skip helm "without kubernetes-validate"; return; }
    cargo build --package k8s --quiet
    for major in 3 4; do
        real_helm "$major" || { skip "helm$major" "it cannot be made here"; continue; }
        chart "$major"
        helm=target/helm/bin/helm$major
    done
    [ -n "$helm" ] || return 0
    install promtool=prometheus || { skip monitoring "without promtool"; return; }
    monitoring "$helm"
}
