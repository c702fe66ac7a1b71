//! What needs no running weir: reading, checking and explaining a policy.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use control_api::document::{
    BYTES_MAX, Document, Finding, Settings, effective_settings, text_value,
};
use control_api::policy::Target;
use http::{Method, Uri};
use serde::Serialize;
use serde_json::Value;

use crate::Failure;
use crate::output::Output;

/// Reads a file, or standard input where the file is `-`: to its end, or these many bytes of it.
pub(crate) fn read(file: &Path, length: Option<u64>) -> Result<String, Failure> {
    let mut text = String::new();
    // One byte more than is allowed is enough to see that it is too much.
    let most = u64::try_from(BYTES_MAX)
        .unwrap_or(u64::MAX)
        .saturating_add(1)
        .min(length.unwrap_or(u64::MAX));
    let read = if file == Path::new("-") {
        io::stdin().lock().take(most).read_to_string(&mut text)
    } else {
        File::open(file).and_then(|opened| opened.take(most).read_to_string(&mut text))
    };
    let read = read.map_err(|error| format!("{}: {error}", file.display()))?;
    if length.is_some_and(|length| u64::try_from(read) != Ok(length)) {
        return Err(format!("{}: ends after {read} bytes", file.display()).into());
    }
    Ok(text)
}

/// Reads a file as a policy that is not yet checked.
pub(crate) fn read_value(file: &Path, length: Option<u64>) -> Result<Value, Failure> {
    let text = read(file, length)?;
    text_value(&text).map_err(|error| format!("{}: {error}", file.display()).into())
}

/// Reads a file as a policy.
pub(crate) fn read_document(file: &Path) -> Result<Document, Failure> {
    let text = read(file, None)?;
    Document::parse(&text).map_err(|error| format!("{}:\n{error}", file.display()).into())
}

#[derive(Serialize)]
struct Checked {
    warnings: Vec<Finding>,
}

/// Checks a policy.
pub(crate) fn check(output: Output, file: &Path) -> Result<(), Failure> {
    let document = read_document(file)?;
    let checked = Checked {
        warnings: document.warnings(),
    };
    output.print(&checked, |checked| {
        let warnings = checked.warnings.iter();
        let mut lines: Vec<String> = warnings
            .map(|warning| format!("warning: {warning}"))
            .collect();
        lines.push(format!("{}: good", file.display()));
        lines.join("\n") + "\n"
    })
}

#[derive(Serialize)]
struct Explained {
    route: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    settings: Settings,
}

/// Shows which route a call takes, and everything that it is under.
pub(crate) fn explain(
    output: Output,
    policy: &Document,
    revision: Option<u64>,
    method: &Method,
    url: &Uri,
) -> Result<(), Failure> {
    let host = url
        .host()
        .ok_or("the URL has no host; write one like http://payments.shop.svc/v1/pay")?
        .to_ascii_lowercase();
    let standard_port = if url.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    let policy = policy.compile();
    let rule = policy.rule(&Target {
        host: &host,
        port: url.port_u16().unwrap_or(standard_port),
        path: url.path(),
        method,
    });
    let explained = Explained {
        route: rule.name.to_string(),
        scope: rule.scope.as_deref().map(str::to_owned),
        revision,
        settings: effective_settings(rule),
    };
    output.print(&explained, |explained| {
        let scope = match &explained.scope {
            Some(scope) => format!("admission, budget and breaker of its own ({scope})"),
            None => "admission, budget and breaker shared by the destination".to_owned(),
        };
        let settings = serde_yaml_ng::to_string(&explained.settings).unwrap_or_default();
        format!("route {}, {scope}\n{settings}", explained.route)
    })
}
