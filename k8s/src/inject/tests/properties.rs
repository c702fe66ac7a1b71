//! What holds for any pod.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Pods of all kinds that matter here.
fn any_pod() -> impl Strategy<Value = (Value, Facts)> {
    let container = (any::<bool>(), any::<bool>(), "[a-z]{1,5}").prop_map(|(env, own, name)| {
        let mut container = json!({"name": name, "image": "a"});
        if env {
            container["env"] = json!([{"name": "A", "value": "1"}]);
        }
        if env && own {
            container["env"][0]["name"] = "NO_PROXY".into();
        }
        container
    });
    let list = proptest::option::of(proptest::collection::vec(container, 0..3));
    let annotation = prop_oneof![
        Just(None),
        Just(Some(json!({}))),
        Just(Some(json!({"weir.dev/native": "false"}))),
        Just(Some(
            json!({"weir.dev/interception": "none", "weir.dev/typo": "x"})
        )),
        Just(Some(json!({"weir.dev/interception": "verify"}))),
        Just(Some(
            json!({"weir.dev/interception": "env", "weir.dev/log-level": "debug"})
        )),
    ];
    let volumes = prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!([{"name": "v"}]))
    ];
    let named = any::<bool>();
    (
        list.clone(),
        list,
        annotation,
        volumes,
        named,
        any::<bool>(),
    )
        .prop_map(|(containers, init, annotations, volumes, named, forbids)| {
            let mut pod = json!({"spec": {"containers": containers, "volumes": volumes}});
            if let Some(init) = init {
                pod["spec"]["initContainers"] = init.into();
            }
            if named || annotations.is_some() {
                pod["metadata"] = json!({"name": "p"});
            }
            if let Some(annotations) = annotations {
                pod["metadata"]["annotations"] = annotations;
            }
            (
                pod,
                if forbids {
                    forbidding()
                } else {
                    Facts::default()
                },
            )
        })
}

proptest! {
    #[test]
    fn to_inject_twice_changes_nothing((pod, facts) in any_pod()) {
        let (once, _) = injected(&pod, &facts);
        let again = decide(&once, &facts);
        prop_assert_eq!(again.code(), "already_injected");
        prop_assert_eq!(again.texts(), Vec::<String>::new());
    }

    #[test]
    fn nothing_of_the_pod_is_lost((pod, facts) in any_pod()) {
        let (once, _) = injected(&pod, &facts);
        for list in ["containers", "initContainers", "volumes"] {
            let kept: Vec<String> = names(&once, list)
                .into_iter()
                .filter(|name| !name.starts_with("weir-"))
                .collect();
            prop_assert_eq!(kept, names(&pod, list));
        }
    }
}
