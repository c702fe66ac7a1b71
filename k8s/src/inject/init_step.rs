//! The init step of a pod whose connections are redirected: `weir redirect`.

use control_api::well_known::OUTBOUND_PORT;
use control_api::well_known::kubernetes::{BINARY_DIR, REDIRECT_CONTAINER};
use serde_json::{Value, json};

use super::common::{no_token, resources};
use crate::options::{Interception, Options};
use crate::settings::Settings;
use crate::values::UID_MAX;

/// The init step, gone when the rules were seen to work: root with one capability where it installs them, and nobody of note
/// where somebody else has.
pub(super) fn redirect(settings: &Settings, options: &Options) -> Value {
    let installs = options.interception == Interception::Redirect;
    let mut args = vec![
        "redirect".to_owned(),
        format!("--proxy-uid={}", options.proxy_uid),
        format!("--redirect-port={OUTBOUND_PORT}"),
    ];
    if !options.skip_outbound_ports.is_empty() {
        args.push(format!("--skip-ports={}", options.skip_outbound_ports));
    }
    if !options.skip_outbound_cidrs.is_empty() {
        args.push(format!("--skip-cidrs={}", options.skip_outbound_cidrs));
    }
    if !installs {
        args.push("--verify".to_owned());
    } else if options.drop_invalid {
        args.push("--drop-invalid".to_owned());
    }
    let uid = if installs {
        0
    } else {
        another_than(options.proxy_uid)
    };
    let capabilities = if installs {
        json!({"drop": ["ALL"], "add": ["NET_ADMIN"]})
    } else {
        json!({"drop": ["ALL"]})
    };
    json!({
        "name": REDIRECT_CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy.name(),
        "command": [format!("{BINARY_DIR}/weir")],
        "args": args,
        "resources": resources(&options.resources),
        "securityContext": {
            "runAsUser": uid,
            "runAsNonRoot": !installs,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": capabilities,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [no_token()],
    })
}

/// Who is redirected, unlike the proxy: the next user id, which is most likely in the range that a platform allows.
fn another_than(uid: u32) -> u32 {
    if uid < UID_MAX { uid + 1 } else { uid - 1 }
}
