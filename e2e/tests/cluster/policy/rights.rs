//! What pushing needs of Kubernetes: the rights that k8s/README.md lists, and a word about the one that is missing.

use e2e::binaries;
use e2e::cluster::namespace::Namespace;
use e2e::cluster::{SOON, done, kubectl_json, run_with_input, until};
use e2e::process::Finished;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

/// Each right that pushing fails without, by resource and verb, and what is said then.
///
/// The first push has no ConfigMap yet, the others find one. Of `pods/exec` Kubernetes 1.34 asks for `get`, and later ones for
/// `create` too.
const NEEDED: [(&str, &str, &str); 5] = [
    ("configmaps", "create", "create configmaps"),
    ("configmaps", "update", "update configmaps"),
    ("configmaps", "get", "get configmaps"),
    ("pods/exec", "get", "get and create pods/exec"),
    ("pods", "list", "list pods"),
];

/// The Role that the documentation shows, for this namespace.
fn documented(shop: &Namespace) -> Value {
    let path = binaries::repository().join("k8s/README.md");
    let text = std::fs::read_to_string(path).expect("the documentation");
    let role = text
        .split("```yaml\n")
        .filter_map(|part| part.split_once("```"))
        .map(|(yaml, _)| yaml)
        .find(|yaml| yaml.contains("kind: Role\n"))
        .expect("the documentation shows a Role");
    let mut role: Value = serde_yaml_ng::from_str(role).expect("it is YAML");
    role["metadata"]["namespace"] = shop.name().into();
    role
}

/// The same without one right.
fn without(role: &Value, resource: &str, verb: &str) -> Value {
    let mut role = role.clone();
    let rules = role["rules"].as_array_mut().expect("rules");
    let of_resource = rules
        .iter_mut()
        .find(|rule| rule["resources"] == json!([resource]));
    let verbs = of_resource.and_then(|rule| rule["verbs"].as_array_mut());
    let verbs = verbs.unwrap_or_else(|| panic!("no rule for {resource}"));
    let all = verbs.len();
    verbs.retain(|known| known != verb);
    assert_eq!(verbs.len(), all - 1, "{verb} {resource} is documented");
    // A rule without verbs is none.
    rules.retain(|rule| rule["verbs"] != json!([]));
    role
}

/// A kubeconfig with nothing but a token of an account that has the role.
fn kubeconfig(shop: &Namespace, role: &Value) -> NamedTempFile {
    shop.apply(&role.to_string());
    let name = role["metadata"]["name"].as_str().expect("a name");
    let token = shop.account("pusher", name);
    let words = ["config", "view", "--minify", "--raw", "--output", "json"];
    let mut config = kubectl_json(&words);
    config["users"][0]["user"] = json!({"token": token});
    let file = NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), config.to_string()).expect("a temporary file");
    file
}

/// Replaces the role, and waits until the API server heeds it.
fn replace(shop: &Namespace, role: &Value, (resource, verb): (&str, &str), allowed: bool) {
    shop.apply(&role.to_string());
    let account = format!("--as=system:serviceaccount:{}:pusher", shop.name());
    let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
    let part = format!("--subresource={part}");
    until("the role is heeded", SOON, || {
        let words = ["auth", "can-i", verb, resource, &part, &account];
        (shop.try_kubectl(&words).status.success() == allowed).then_some(())
    });
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn a_push_needs_the_documented_rights_and_names_the_one_it_lacks() {
    let shop = Namespace::injected("weir-pusher");
    let pod = shop.client("");
    let role = documented(&shop);
    let config = kubeconfig(&shop, &role);
    let config = format!("KUBECONFIG={}", config.path().display());
    let program = binaries::weirctl();
    let weirctl = |words: &[&str], input: &str| -> Finished {
        let program = [config.as_str(), program.to_str().expect("text")];
        run_with_input("env", &[&program, words].concat(), input)
    };
    // Each push is of a policy of its own, which `--save` then has to write.
    let push = |limit: usize| {
        let pods = ["push", "--namespace", shop.name(), "--selector=app=client"];
        let policy = format!("version: weir/v1\ndefaults: {{admission: {{limit: {limit}}}}}\n");
        weirctl(&[&pods[..], &["--wait", "--save", "-"]].concat(), &policy)
    };
    for (number, (resource, verb, said)) in NEEDED.into_iter().enumerate() {
        let right = (resource, verb);
        replace(&shop, &without(&role, resource, verb), right, false);
        let failed = push(100 + number);
        let text = format!("{}{}", failed.stdout, failed.stderr);
        let needed = format!("needed in namespace {}: {said}", shop.name());
        assert_eq!(failed.status.code(), Some(1), "{text}");
        assert!(
            text.contains("forbidden") && text.contains(&needed),
            "{text}"
        );
        replace(&shop, &role, right, true);
        done(
            &format!("a push with {verb} {resource}"),
            push(200 + number),
        );
    }

    let one = format!("{}/{pod}", shop.name());
    done("status", weirctl(&["--pod", &one, "status"], ""));
    replace(
        &shop,
        &without(&role, "pods", "get"),
        ("pods", "get"),
        false,
    );
    let failed = weirctl(&["--pod", &one, "status"], "");
    assert!(failed.stderr.contains(": get pods"), "{failed:?}");
}
