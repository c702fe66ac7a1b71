//! A document's routes: names, what they match, their settings.

use std::net::Ipv6Addr;

use serde::{Serialize, Serializer};

use super::error::Findings;
use super::leaf::{methods, port};
use super::read::{ROUTES_MAX, SETTINGS_FIELDS, settings};
use super::reader::Node;
use super::settings::Settings;
use crate::policy::{Authority, Match};

/// Settings for some calls.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Route {
    /// None: the route is called by its place in the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(
        rename = "match",
        skip_serializing_if = "matches_everything",
        serialize_with = "serialize_match"
    )]
    pub(super) matches: Match,
    #[serde(flatten)]
    pub(super) settings: Settings,
}

impl Route {
    /// The route's name, or its place in the document, which is no name that a route can be given.
    pub(super) fn name(&self, index: usize) -> String {
        self.name
            .clone()
            .unwrap_or_else(|| format!("routes/{index}"))
    }
}

/// Reads the list of routes. A route with mistakes keeps its place, so that later checks find the others'.
pub(super) fn routes(node: &Node<'_>, findings: &mut Findings) -> Option<Vec<Route>> {
    let items = node.items(ROUTES_MAX, findings)?;
    Some(items.iter().map(|item| route(item, findings)).collect())
}

fn route(node: &Node<'_>, findings: &mut Findings) -> Route {
    let known: Vec<&str> = ROUTE_FIELDS
        .iter()
        .chain(SETTINGS_FIELDS)
        .copied()
        .collect();
    let Some(fields) = node.fields(&known, findings) else {
        return Route {
            name: None,
            matches: EVERYTHING,
            settings: Settings::default(),
        };
    };
    Route {
        name: fields.read("name", findings, name),
        matches: fields
            .read("match", findings, matches)
            .unwrap_or(EVERYTHING),
        settings: settings(&fields, findings),
    }
}

fn name(node: &Node<'_>, findings: &mut Findings) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let name = node.text().filter(|text| {
        !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(allowed)
    });
    let Some(name) = name else {
        node.is_not(
            "a route's name: 1 to 63 letters, digits, dots, dashes and underscores",
            findings,
        );
        return None;
    };
    if name == DEFAULTS_NAME {
        findings.push(
            node.pointer(),
            "defaults is what calls without a route are counted under; choose another name",
        );
        return None;
    }
    Some(name.to_owned())
}

fn matches(node: &Node<'_>, findings: &mut Findings) -> Option<Match> {
    let fields = node.fields(MATCH_FIELDS, findings)?;
    Some(Match {
        authority: fields
            .read("authority", findings, authority)
            .unwrap_or(Authority::Any),
        port: fields.read("port", findings, port),
        path_prefix: fields.read("path", findings, |node, findings| {
            let fields = node.fields(PATH_FIELDS, findings)?;
            let prefix = fields.read("prefix", findings, path_prefix);
            if fields.get("prefix").is_none() {
                findings.push(
                    node.pointer(),
                    "without a prefix; write path: {prefix: /v1/}",
                );
            }
            prefix
        }),
        methods: fields
            .read("methods", findings, |node, findings| {
                let methods = methods(node, findings)?;
                if node.is_list() && methods.is_empty() {
                    findings.push(
                        node.pointer(),
                        "an empty list matches nothing; leave it out",
                    );
                }
                Some(methods)
            })
            .unwrap_or_default(),
    })
}

fn authority(node: &Node<'_>, findings: &mut Findings) -> Option<Authority> {
    let text = node.text().unwrap_or_default().to_ascii_lowercase();
    if text == "*" {
        return Some(Authority::Any);
    }
    if text.contains("://") || text.contains('/') {
        node.is_not("a host; leave out the scheme and the path", findings);
        return None;
    }
    let unbracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Ok(address) = unbracketed.unwrap_or(&text).parse::<Ipv6Addr>() {
        return Some(Authority::Exact(address.to_string()));
    }
    if let Some((host, _)) = text.rsplit_once(':') {
        node.is_not(
            format_args!("a host; write {host} here and the port beside it"),
            findings,
        );
        return None;
    }
    let host = text.strip_suffix('.').unwrap_or(&text);
    let authority = match host.strip_prefix("*.") {
        Some(domain) if is_host(domain) => Some(Authority::Suffix(domain.to_owned())),
        None if is_host(host) => Some(Authority::Exact(host.to_owned())),
        _ => None,
    };
    if authority.is_none() {
        node.is_not(
            "a host; write one like payments.shop.svc, or *.shop.svc for every host below shop.svc",
            findings,
        );
    }
    authority
}

fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    text.len() <= HOST_BYTES_MAX
        && text
            .split('.')
            .all(|label| !label.is_empty() && label.bytes().all(allowed))
}

fn path_prefix(node: &Node<'_>, findings: &mut Findings) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'?' && byte != b'#';
    let prefix = node.text().filter(|text| {
        text.starts_with('/') && text.len() <= PATH_BYTES_MAX && text.bytes().all(allowed)
    });
    if prefix.is_none() {
        node.is_not(
            "a path prefix: it starts with a slash, is percent-encoded and has no query",
            findings,
        );
    }
    prefix.map(str::to_owned)
}

fn matches_everything(matches: &Match) -> bool {
    *matches == EVERYTHING
}

fn serialize_match<S: Serializer>(matches: &Match, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Wire<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        authority: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<Path<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        methods: Vec<&'a str>,
    }
    #[derive(Serialize)]
    struct Path<'a> {
        prefix: &'a str,
    }
    Wire {
        authority: (matches.authority != Authority::Any).then(|| matches.authority.to_string()),
        port: matches.port,
        path: matches.path_prefix.as_deref().map(|prefix| Path { prefix }),
        methods: matches.methods.iter().map(http::Method::as_str).collect(),
    }
    .serialize(serializer)
}

const EVERYTHING: Match = Match {
    authority: Authority::Any,
    port: None,
    path_prefix: None,
    methods: Vec::new(),
};

pub(super) const ROUTE_FIELDS: &[&str] = &["name", "match"];
pub(super) const MATCH_FIELDS: &[&str] = &["authority", "port", "path", "methods"];
pub(super) const PATH_FIELDS: &[&str] = &["prefix"];

/// The name of the rule for calls that no route matches.
const DEFAULTS_NAME: &str = "defaults";
/// Longest name: it becomes a metric label and a Kubernetes label value.
const NAME_BYTES_MAX: usize = 63;
/// RFC 1035 §2.3.4: longest domain name.
const HOST_BYTES_MAX: usize = 253;
/// Longest path prefix, in bytes.
const PATH_BYTES_MAX: usize = 1024;
