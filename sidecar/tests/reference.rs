//! Writes the reference pages from the declarations in the code, and fails where a page is not what they say.
//!
//! `UPDATE_EXPECT=1 cargo test --package sidecar --test reference` writes them anew.

use std::fmt::Write as _;

use expect_test::expect_file;
use prometheus_client::metrics::MetricType;
use sidecar::settings::SETTINGS;
use sidecar::telemetry::metrics::declared::ALL;
use sidecar::telemetry::metrics::destinations::DESTINATIONS_MAX;

/// What keeps people from editing a page that is overwritten.
const NOTE: &str =
    "<!-- Written by `UPDATE_EXPECT=1 cargo test --package sidecar --test reference`. -->\n";

#[test]
fn the_page_of_settings_is_what_the_code_reads() {
    let mut page = format!(
        "{NOTE}# Settings of `weir proxy`\n\n\
         Environment variables; an empty one counts as absent. A value that cannot be used is named with what was expected, and \
         nothing is started (exit code 2). The standard `OTEL_*` variables say where spans go.\n\n\
         | variable | default | meaning |\n|---|---|---|\n"
    );
    for setting in SETTINGS {
        let default = match setting.default {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        let meaning = setting.meaning.replace('|', "\\|");
        writeln!(page, "| `{}` | {default} | {meaning} |", setting.name).unwrap();
    }
    expect_file!["../../docs/settings.md"].assert_eq(&page);
}

#[test]
fn the_page_of_metrics_is_what_is_scraped() {
    let mut page = format!(
        "{NOTE}# Metrics\n\n\
         Prometheus text at `/metrics` of the admin port. `destination` is one of at most {DESTINATIONS_MAX}, and `other` \
         for the rest; `scope` is the route with a state of its own; all other labels' values come from closed sets.\n\n\
         | metric | kind | labels | meaning |\n|---|---|---|---|\n"
    );
    for metric in ALL {
        let kind = match metric.kind {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::Info => "info",
            MetricType::Unknown => "unknown",
        };
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        writeln!(
            page,
            "| `{}` | {kind} | {} | {} |",
            metric.name,
            labels.join(" "),
            metric.help
        )
        .unwrap();
    }
    expect_file!["../../docs/metrics.md"].assert_eq(&page);
}
