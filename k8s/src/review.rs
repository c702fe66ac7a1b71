//! Answers an `AdmissionReview` (`admission.k8s.io/v1`): bytes in, the answer or a reason for a 400 out. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::inject::{Facts, Outcome, PodSecurity, inject};
use crate::settings::Settings;

/// The answer to a review.
#[derive(Debug, Clone, PartialEq)]
pub struct Reviewed {
    /// What the API server is sent.
    pub answer: Value,
    /// What became of the object: `injected`, or why it stays as it is.
    pub code: &'static str,
}

/// Bytes that are no review of a kind that can be answered.
#[derive(Debug, thiserror::Error)]
pub enum MalformedReview {
    /// Not JSON, or not the shape of a review.
    #[error("not an AdmissionReview: {0}")]
    Json(#[source] serde_json::Error),
    /// So many values that reading them would take more memory than there is.
    #[error("the review has more than {VALUES_MAX} values, which no pod needs")]
    TooManyValues,
    /// Another version, or another object.
    #[error("expected kind AdmissionReview of {VERSION}, got kind {kind:?} of {version:?}")]
    Version {
        /// Its kind.
        kind: String,
        /// Its version.
        version: String,
    },
    /// An answer could not be matched to it.
    #[error("request.uid is empty")]
    NoUid,
    /// The object says that it is a pod, and is none.
    #[error("request.object is not a pod: {0}")]
    NotAPod(#[source] serde_json::Error),
    /// The patch cannot be written: a bug of ours.
    #[error("writing the patch: {0}")]
    Patch(#[source] serde_json::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    kind: Kind,
    operation: String,
    #[serde(default)]
    object: Value,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    group: String,
    kind: String,
}

/// What is said of objects that are not created pods.
pub const UNSUPPORTED: &str = "unsupported_resource";

/// Answers the review in `body`.
///
/// # Errors
/// [`MalformedReview`]
pub fn answer(
    body: &[u8],
    pod_security: PodSecurity,
    settings: &Settings,
) -> Result<Reviewed, MalformedReview> {
    if has_too_many_values(body) {
        return Err(MalformedReview::TooManyValues);
    }
    let review: Review = serde_json::from_slice(body).map_err(MalformedReview::Json)?;
    if review.api_version != VERSION || review.kind != "AdmissionReview" {
        return Err(MalformedReview::Version {
            kind: review.kind,
            version: review.api_version,
        });
    }
    let request = review.request;
    if request.uid.is_empty() {
        return Err(MalformedReview::NoUid);
    }
    let mut response = Map::new();
    response.insert("uid".to_owned(), request.uid.into());
    response.insert("allowed".to_owned(), true.into());
    let is_pod = request.kind.group.is_empty() && request.kind.kind == "Pod";
    let code = if is_pod && request.operation == "CREATE" {
        let facts = Facts {
            workload: None,
            pod_security,
        };
        let outcome =
            inject(&request.object, &facts, settings).map_err(MalformedReview::NotAPod)?;
        add_outcome(&mut response, &outcome)?;
        outcome.code()
    } else {
        UNSUPPORTED
    };
    response.insert("auditAnnotations".to_owned(), json!({"result": code}));
    Ok(Reviewed {
        answer: json!({"apiVersion": VERSION, "kind": "AdmissionReview", "response": response}),
        code,
    })
}

fn add_outcome(
    response: &mut Map<String, Value>,
    outcome: &Outcome,
) -> Result<(), MalformedReview> {
    if let Outcome::Injected { patch, .. } = outcome {
        let patch = serde_json::to_vec(patch).map_err(MalformedReview::Patch)?;
        response.insert("patchType".to_owned(), "JSONPatch".into());
        response.insert("patch".to_owned(), STANDARD.encode(patch).into());
    }
    let texts = outcome.texts();
    if !texts.is_empty() {
        response.insert("warnings".to_owned(), texts.into());
    }
    Ok(())
}

/// Counts what separates and opens values, outside of texts: a value takes a hundred times the byte that it may be written in.
fn has_too_many_values(body: &[u8]) -> bool {
    let (mut values, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => values += 1,
            _ => {}
        }
    }
    values > VALUES_MAX
}

/// Most values of a review. The largest pods that etcd takes have some 75,000, with twenty bytes each.
const VALUES_MAX: usize = 100_000;

const VERSION: &str = "admission.k8s.io/v1";

#[cfg(test)]
mod tests {
    use super::*;

    fn review(group: &str, kind: &str, operation: &str) -> Vec<u8> {
        json!({
            "apiVersion": VERSION, "kind": "AdmissionReview",
            "request": {
                "uid": "u-1", "operation": operation,
                "kind": {"group": group, "version": "v1", "kind": kind},
                "object": {"spec": {"containers": []}},
            },
        })
        .to_string()
        .into_bytes()
    }

    fn reviewed(body: &[u8]) -> Result<Reviewed, MalformedReview> {
        let settings = Settings::parse("").unwrap();
        answer(body, PodSecurity::AllowsNetAdmin, &settings)
    }

    #[test]
    fn only_created_pods_are_injected_and_everything_else_is_admitted() {
        for (group, kind, operation, code) in [
            ("", "Pod", "CREATE", "injected"),
            ("", "Pod", "UPDATE", UNSUPPORTED),
            ("", "Service", "CREATE", UNSUPPORTED),
            ("example.com", "Pod", "CREATE", UNSUPPORTED),
        ] {
            let reviewed = reviewed(&review(group, kind, operation)).unwrap();
            assert_eq!(reviewed.code, code);
            let response = &reviewed.answer["response"];
            assert_eq!(response["allowed"], true);
            assert_eq!(response["uid"], "u-1");
            assert_eq!(response["patch"].is_string(), code == "injected");
            assert_eq!(response["auditAnnotations"]["result"], code);
        }
    }

    #[test]
    fn only_values_count_and_not_what_is_written_in_texts() {
        let text = "[,{".repeat(VALUES_MAX);
        for (body, is_too_much) in [
            (format!("[{}0]", "0,".repeat(VALUES_MAX - 1)), false),
            (format!("[{}0]", "0,".repeat(VALUES_MAX)), true),
            ("{".repeat(VALUES_MAX + 1), true),
            (format!(r#"["{text}"]"#), false),
            (format!(r#"["\"{text}\\"]"#), false),
            (format!(r#"["\\",{text}]"#), true),
        ] {
            assert_eq!(has_too_many_values(body.as_bytes()), is_too_much);
        }
    }

    #[test]
    fn what_is_malformed_is_named() {
        let error = |body: &str| reviewed(body.as_bytes()).unwrap_err().to_string();
        assert!(error("").starts_with("not an AdmissionReview: EOF"));
        assert!(error("[]").starts_with("not an AdmissionReview: invalid length"));
        assert!(error(&"[".repeat(1000)).contains("not an AdmissionReview"));
        let whole = String::from_utf8(review("", "Pod", "CREATE")).unwrap();
        assert!(error(&whole.replace("io/v1", "io/v1beta1")).contains("got kind"));
        assert_eq!(error(&whole.replace("u-1", "")), "request.uid is empty");
        assert_eq!(
            error(&whole.replace("\"containers\":[]", "\"containers\":7")),
            "request.object is not a pod: invalid type: integer `7`, expected a sequence"
        );
    }
}
