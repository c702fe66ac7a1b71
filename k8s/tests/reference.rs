//! Writes the tables of `k8s/README.md` from the declarations in the code, and fails where they differ.
//!
//! `UPDATE_EXPECT=1 cargo test --package k8s --test reference` writes them anew.

use std::fmt::Write as _;

use expect_test::expect_file;
use k8s::options::ANNOTATIONS;
use k8s::reason::{SKIPS, WARNINGS};

const NOTE: &str =
    "<!-- Written by `UPDATE_EXPECT=1 cargo test --package k8s --test reference`. -->\n";

#[test]
fn the_readme_has_every_annotation_and_every_reason() {
    let readme = include_str!("../README.md");
    let (head, _) = readme.split_once(NOTE).unwrap_or((readme, ""));
    let mut page = format!("{head}{NOTE}\n| `weir.dev/` | meaning |\n|---|---|\n");
    for annotation in ANNOTATIONS {
        writeln!(page, "| `{}` | {} |", annotation.name, annotation.meaning).unwrap();
    }
    page.push_str(
        "| `inject` | A label, not an annotation: `enabled` on a namespace or a pod asks for the sidecar, `disabled` on a pod forbids it. |\n\
         | `status` | Written by the injector: its version, a hash of what it added, the modes. |\n",
    );
    for (title, text, reasons) in [
        (
            "Why a pod is not injected",
            "It is admitted as it is, with a warning that `kubectl` prints; the code stands in the metric and in the audit log.",
            SKIPS,
        ),
        (
            "What its owner is told besides",
            "The pod is injected.",
            WARNINGS,
        ),
    ] {
        write!(page, "\n## {title}\n{text}\n\n| code | why |\n|---|---|\n").unwrap();
        for (code, meaning) in reasons {
            writeln!(page, "| `{code}` | {meaning} |").unwrap();
        }
    }
    expect_file!["../README.md"].assert_eq(&page);
}
