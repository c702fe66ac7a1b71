//! The example policies of the repository.

use std::fs;
use std::path::Path;

use control_api::document::Document;
use control_api::policy::Policy;

#[test]
fn every_example_policy_is_good_and_without_warnings() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policies");
    let mut count = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let document = Document::parse(&text).unwrap_or_else(|error| panic!("{path:?}:\n{error}"));
        assert_eq!(document.warnings(), [], "{path:?}");
        count += 1;
    }
    assert!(count >= 3);
}

#[test]
fn the_gentle_example_changes_nothing() {
    let text = include_str!("../../../examples/policies/gentle.yaml");
    let policy = Document::parse(text).unwrap().compile();
    assert_eq!(policy.defaults(), Policy::default().defaults());
}
