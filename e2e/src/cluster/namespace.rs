//! A namespace that a test made for itself, and what it does in there. It is gone with the test.

use std::process::Command;

use serde_json::Value;

use super::{INJECT, SOON, done, kubectl, kubectl_json, kubectl_ok, run_with_input, until};
use crate::binaries;
use crate::process::{Finished, Process};

/// A namespace of a test's own.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace whose pods get sidecars.
    pub fn injected(name: &str) -> Self {
        let namespace = Self::bare(name);
        namespace.label(INJECT);
        namespace
    }

    /// Makes a namespace that says nothing.
    pub fn bare(name: &str) -> Self {
        // One of an earlier run that was killed may still be there.
        kubectl_ok(&["delete", "namespace", name, "--ignore-not-found", "--wait"]);
        kubectl_ok(&["create", "namespace", name]);
        let namespace = Self {
            name: name.to_owned(),
        };
        until("the default service account", SOON, || {
            namespace
                .try_kubectl(&["get", "serviceaccount", "default"])
                .status
                .success()
                .then_some(())
        });
        namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets or removes (`key-`) a label of the namespace itself.
    pub fn label(&self, label: &str) {
        kubectl_ok(&["label", "namespace", &self.name, label, "--overwrite"]);
    }

    /// `kubectl` in this namespace; it may fail.
    pub fn try_kubectl(&self, words: &[&str]) -> Finished {
        kubectl(&[&["--namespace", &self.name], words].concat())
    }

    /// `kubectl` in this namespace.
    pub fn kubectl(&self, words: &[&str]) -> String {
        done(
            &format!("kubectl -n {} {}", self.name, words.join(" ")),
            self.try_kubectl(words),
        )
    }

    /// An object as the API server has it.
    pub fn get(&self, words: &[&str]) -> Value {
        let place = ["--namespace", &self.name, "get"];
        kubectl_json(&[&place, words, &["--output", "json"]].concat())
    }

    /// Creates or changes what the manifest says; it may fail. Warnings stand in the standard error.
    pub fn try_apply(&self, manifest: &str) -> Finished {
        run_with_input(
            "kubectl",
            &["--namespace", &self.name, "apply", "--filename", "-"],
            manifest,
        )
    }

    /// Creates or changes what the manifest says, and answers with the warnings.
    pub fn apply(&self, manifest: &str) -> String {
        let finished = self.try_apply(manifest);
        let warnings = finished.stderr.clone();
        done(&format!("applying\n{manifest}"), finished);
        warnings
    }

    /// The services of the demo shop by their names, ready.
    pub fn shop(&self, services: &[&str]) {
        let folder = binaries::repository().join("e2e/cluster/shop/manifests");
        for service in services {
            let path = folder.join(format!("{service}.yaml"));
            let path = path.to_str().expect("the repository's path is text");
            self.kubectl(&["apply", "--filename", path]);
        }
        for service in services {
            self.available(service);
        }
    }

    /// Writes the ConfigMap from which the namespace's pods take their policy.
    pub fn policy(&self, body: &str) {
        let document = format!("version: weir/v1\n{body}\n").replace('\n', "\n    ");
        self.apply(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: weir-policy}}\ndata:\n  policy.yaml: |\n    {document}\n"
        ));
    }

    /// A pod `client` with a container `app` that sleeps, in which tests make calls.
    pub fn client(&self, annotations: &str) -> &'static str {
        let metadata = format!("labels: {{app: client}}, annotations: {{{annotations}}}");
        self.apply(&sleeper(
            "client",
            &metadata,
            "securityContext: {runAsUser: 1000}",
        ));
        self.wait_pod("client", "Ready");
        "client"
    }

    /// A new account that has this role of the namespace; its token.
    pub fn account(&self, name: &str, role: &str) -> String {
        let account = format!("--serviceaccount={}:{name}", self.name());
        let role = format!("--role={role}");
        self.kubectl(&["create", "serviceaccount", name]);
        self.kubectl(&["create", "rolebinding", name, &role, &account]);
        self.kubectl(&["create", "token", name]).trim().to_owned()
    }

    /// Pods of a Deployment that make calls all the time, each ready.
    pub fn callers(
        &self,
        deployment: &str,
        replicas: u32,
        annotations: &str,
        words: &str,
    ) -> Vec<String> {
        self.begin_callers(deployment, replicas, annotations, words);
        self.available(deployment);
        self.pods(&format!("app={deployment}"))
    }

    /// Makes a Deployment of pods that make calls all the time, with these annotations and these words of load, `--url` among
    /// them. `/summary` of their port 9000 says how it goes.
    pub fn begin_callers(&self, deployment: &str, replicas: u32, annotations: &str, words: &str) {
        self.apply(&format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {deployment}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {deployment}}}}}
  template:
    metadata: {{labels: {{app: {deployment}}}, annotations: {{{annotations}}}}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: app
        image: registry.local/shop-go:1
        imagePullPolicy: IfNotPresent
        args: [load, --seconds, '0', --concurrency, '50', {words}]
        readinessProbe: {{httpGet: {{path: /ready, port: 9000}}, periodSeconds: 1}}
        securityContext: {{runAsUser: 1000}}
"
        ));
    }

    /// How the calls of one of the callers ended so far.
    pub fn summary(&self, pod: &str) -> Value {
        serde_json::from_str(&self.ask(pod, 9000, "/summary")).expect("it answers with JSON")
    }

    /// One call from a pod of the shop's Go image, as it prints it.
    pub fn call(&self, pod: &str, container: &str, url: &str) -> Value {
        self.exec_json(pod, container, &["/shop", "get", url])
    }

    /// Load from the pod `client` to its end, and its summary.
    pub fn load(&self, url: &str, words: &[&str]) -> Value {
        self.exec_json(
            "client",
            "app",
            &[&["/shop", "load", "--url", url], words].concat(),
        )
    }

    /// Waits until a Deployment has all its replicas, of its newest template.
    pub fn available(&self, deployment: &str) {
        let target = format!("deployment/{deployment}");
        let finished = self.try_kubectl(&["rollout", "status", &target, "--timeout=120s"]);
        assert!(
            finished.status.success(),
            "{target}: {}\n{}",
            finished.stderr,
            self.picture()
        );
    }

    /// Names of the pods of a label that are not about to end.
    pub fn pods(&self, selector: &str) -> Vec<String> {
        let list = self.get(&["pods", "--selector", selector]);
        let items = list["items"].as_array().expect("a list");
        let living = items
            .iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        living
            .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
            .collect()
    }

    /// The one pod of a label.
    pub fn pod(&self, selector: &str) -> String {
        let pods = self.pods(selector);
        assert_eq!(pods.len(), 1, "pods of {selector}\n{}", self.picture());
        pods.into_iter().next().expect("there is one")
    }

    /// Waits until a pod has a condition, such as `Ready`.
    pub fn wait_pod(&self, pod: &str, condition: &str) {
        let words = [
            "wait",
            &format!("pod/{pod}"),
            &format!("--for=condition={condition}"),
            "--timeout=90s",
        ];
        let finished = self.try_kubectl(&words);
        assert!(
            finished.status.success(),
            "{pod} is not {condition}: {}\n{}",
            finished.stderr,
            self.picture()
        );
    }

    /// Runs a command in a container; it may fail.
    pub fn exec(&self, pod: &str, container: &str, words: &[&str]) -> Finished {
        self.try_kubectl(&[&["exec", pod, "--container", container, "--"], words].concat())
    }

    /// Runs a command in a container, and answers with the JSON that it printed.
    pub fn exec_json(&self, pod: &str, container: &str, words: &[&str]) -> Value {
        let text = done(
            &format!("{words:?} in {pod}/{container}"),
            self.exec(pod, container, words),
        );
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{words:?} in {pod}: {error}: {text}"))
    }

    /// A command in a container that goes on beside the test.
    pub fn exec_beside(&self, pod: &str, container: &str, words: &[&str]) -> Process {
        let mut command = Command::new("kubectl");
        command.args([
            "--namespace",
            &self.name,
            "exec",
            pod,
            "--container",
            container,
            "--",
        ]);
        Process::spawn(&format!("{words:?} in {pod}"), command.args(words))
    }

    /// Asks a port of a pod by way of the API server.
    pub fn ask(&self, pod: &str, port: u16, path: &str) -> String {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{pod}:{port}/proxy{path}",
            self.name
        );
        kubectl_ok(&["get", "--raw", &path])
    }

    /// What a service of the shop counted.
    pub fn counts(&self, pod: &str) -> Value {
        serde_json::from_str(&self.ask(pod, 9000, "/counts")).expect("it answers with JSON")
    }

    /// What `weirctl` says in a pod's sidecar.
    pub fn weirctl(&self, pod: &str, words: &[&str]) -> Value {
        self.exec_json(
            pod,
            "weir-proxy",
            &[&["/usr/local/bin/weirctl", "--output", "json"], words].concat(),
        )
    }

    /// The sum of a metric's samples in a pod's sidecar whose line has all of `parts`.
    pub fn metric(&self, pod: &str, name: &str, parts: &[&str]) -> u64 {
        let text = self.ask(pod, 19402, "/metrics");
        let lines = text.lines().filter(|line| {
            line.starts_with(name)
                && line[name.len()..].starts_with(['{', ' '])
                && parts.iter().all(|part| line.contains(part))
        });
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// What is there, for a failed test's output.
    pub fn picture(&self) -> String {
        let look = |words: &[&str]| {
            let finished = self.try_kubectl(words);
            finished.stdout + &finished.stderr
        };
        let events = [
            "get",
            "events",
            "--sort-by=.lastTimestamp",
            "--output",
            "custom-columns=O:.involvedObject.name,R:.reason,M:.message",
        ];
        look(&["get", "pods", "--output", "wide"]) + &look(&events)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- namespace {} ----\n{}----", self.name, self.picture());
        }
        let words = [
            "delete",
            "namespace",
            &self.name,
            "--wait=false",
            "--ignore-not-found",
        ];
        drop(kubectl(&words));
    }
}

/// A pod of one container `app` that sleeps, with whatever else a test wants in its metadata and its spec.
pub fn sleeper(name: &str, metadata: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, {metadata}}}
spec:
  terminationGracePeriodSeconds: 5
  {spec}
  containers:
  - name: app
    image: registry.local/shop-go:1
    imagePullPolicy: IfNotPresent
    args: [sleep]
"
    )
}
