//! Detection never panics, and never takes back what it said of a beginning.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sidecar::intercept::detect::{Verdict, classify};

fuzz_target!(|bytes: &[u8]| {
    let mut last = Verdict::NeedMore;
    for end in 0..=bytes.len().min(2_000) {
        let verdict = classify(&bytes[..end]);
        assert!(
            last == Verdict::NeedMore || kind(&verdict) == kind(&last),
            "{last:?}, but one byte later {verdict:?}"
        );
        last = verdict;
    }
    drop(classify(bytes));
});

fn kind(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::NeedMore => 0,
        Verdict::Http1 => 1,
        Verdict::Http2 => 2,
        Verdict::Tls { .. } => 3,
        Verdict::Opaque => 4,
    }
}
