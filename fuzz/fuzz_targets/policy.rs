//! Any text is a policy or a list of reasons; a policy survives being written and read again, and compiles.

#![no_main]

use control_api::document::Document;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(document) = Document::parse(text) else { return };
    let again = Document::from_value(&document.to_value()).expect("what was written can be read");
    assert_eq!(again, document);
    let again = Document::parse(&document.to_yaml()).expect("what was written for people can be read");
    assert_eq!(again, document);
    drop(document.compile());
});
