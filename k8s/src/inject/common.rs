//! What both of our containers have.

use serde_json::{Map, Value, json};

use crate::options::Resources;
use crate::values::Quantity;

/// The volume of the control socket and the last good policy. No other container has it.
pub(super) const STATE_VOLUME: &str = "weir-state";

/// Where the API server mounts the token of a pod's service account, unless something is there.
const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Nothing, where every container otherwise finds the token of the application's service account: the API server mounts
/// it into all that have no mount there, added ones too.
pub(super) fn no_token() -> Value {
    json!({"name": STATE_VOLUME, "mountPath": TOKEN_DIR, "subPath": "no-token", "readOnly": true})
}

/// What a container reserves and may use. The init step has the same, so that it does not raise what the pod asks for.
pub(super) fn resources(resources: &Resources) -> Value {
    let of = |cpu: &Option<Quantity>, memory: &Option<Quantity>| {
        let text = |amount: &Quantity| Value::from(amount.text());
        let cpu = cpu.as_ref().map(|amount| ("cpu".to_owned(), text(amount)));
        let memory = memory
            .as_ref()
            .map(|amount| ("memory".to_owned(), text(amount)));
        Value::Object(cpu.into_iter().chain(memory).collect::<Map<_, _>>())
    };
    json!({
        "requests": of(&resources.cpu_request, &resources.memory_request),
        "limits": of(&resources.cpu_limit, &resources.memory_limit),
    })
}
