//! What the injector's account may do in the cluster, as the API server says.

use e2e::cluster::namespace::Namespace;
use e2e::cluster::{SYSTEM, done, run_with_input};
use serde_json::{Value, json};

use crate::webhook::SECRET;

/// The rules that hold for an account in a namespace: of resources, and of paths.
fn rules(of: &str, account: &str, namespace: &str) -> (Vec<Value>, Vec<Value>) {
    let user = format!("--as=system:serviceaccount:{of}:{account}");
    let group = format!("--as-group=system:serviceaccounts:{of}");
    let words = [
        "create",
        &user,
        &group,
        "--as-group=system:serviceaccounts",
        "--as-group=system:authenticated",
        "--output=json",
        // The client would look at the API for it with the rights of the account.
        "--validate=false",
        "--filename=-",
    ];
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    });
    let text = done(
        &format!("the rights of {user}"),
        run_with_input("kubectl", &words, &review.to_string()),
    );
    let answer: Value = serde_json::from_str(&text).expect("it is JSON");
    let list = |name: &str| {
        let rules = answer["status"][name].as_array();
        let mut rules = rules.cloned().unwrap_or_default();
        rules.sort_by_key(Value::to_string);
        rules
    };
    (list("resourceRules"), list("nonResourceRules"))
}

#[test]
#[ignore = "needs a cluster: .ci/run cluster"]
fn the_injector_may_keep_one_secret_and_one_webhook_configuration() {
    let secret = json!({
        "verbs": ["get", "patch", "create"],
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": [SECRET],
    });
    let configuration = json!({
        "verbs": ["get", "patch"],
        "apiGroups": ["admissionregistration.k8s.io"],
        "resources": ["mutatingwebhookconfigurations"],
        "resourceNames": ["weir-injector"],
    });
    // What an account has to which nobody gave anything.
    let stranger = Namespace::bare("weir-stranger");
    for (namespace, expected) in [
        (SYSTEM, vec![configuration.clone(), secret]),
        ("kube-system", vec![configuration.clone()]),
        (stranger.name(), vec![configuration]),
    ] {
        let (everybody, pages) = rules(stranger.name(), "default", namespace);
        let (mut own, own_pages) = rules(SYSTEM, "weir-injector", namespace);
        own.retain(|rule| !everybody.contains(rule));
        own.sort_by_key(|rule| rule["resources"].to_string());
        assert_eq!(own, expected, "in {namespace}");
        assert_eq!(own_pages, pages, "in {namespace}");
    }
}
