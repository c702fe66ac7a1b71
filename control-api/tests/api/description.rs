//! The API's own description and the document's schema.

use control_api::document::SCHEMA;
use control_api::server::OPENAPI;
use serde_json::Value;

use crate::support::Running;

#[tokio::test]
async fn schema_and_description_are_served() {
    let server = Running::start();
    let schema = server.http("GET /v1/schema", &[], "").await;
    assert!(schema.has_header("content-type: application/schema+json"));
    assert_eq!(schema.body, SCHEMA);
    let description = server.http("GET /v1/openapi.json", &[], "").await;
    assert_eq!(description.body, OPENAPI);
}

#[tokio::test]
async fn every_described_operation_is_there_and_no_other() {
    let server = Running::start();
    let description: Value = serde_json::from_str(OPENAPI).unwrap();
    for (path, operations) in description["paths"].as_object().unwrap() {
        let path = path.replace("{revision}", "1");
        for method in ["get", "put", "post", "patch", "delete"] {
            if path == "/v1/watch" && method == "get" {
                continue;
            }
            let line = format!("{} {path}", method.to_uppercase());
            let answer = server.http(&line, &[], "{}").await;
            let described = operations.get(method).is_some();
            assert_eq!(answer.status != 405, described, "{line}: {answer:?}");
            assert!(!answer.body.contains("no-resource"), "{line}: {answer:?}");
        }
    }
}

#[test]
fn every_reference_in_the_description_leads_somewhere() {
    fn check(value: &Value, root: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(target) = map.get("$ref").and_then(Value::as_str)
                    && let Some(pointer) = target.strip_prefix('#')
                {
                    assert!(root.pointer(pointer).is_some(), "{target}");
                }
                map.values().for_each(|member| check(member, root));
            }
            Value::Array(list) => list.iter().for_each(|member| check(member, root)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    for text in [OPENAPI, SCHEMA] {
        let root: Value = serde_json::from_str(text).unwrap();
        check(&root, &root);
    }
}
