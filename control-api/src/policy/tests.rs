use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::document::Document;

const ROUTES: &str = r#"
version: weir/v1
routes:
  - {name: any}
  - {name: any-v1, match: {path: {prefix: /v1/}}}
  - {name: any-v1-users, match: {path: {prefix: /v1/users}}}
  - {name: any-post, match: {methods: [POST]}}
  - {name: svc, match: {authority: "*.svc"}}
  - {name: shop, match: {authority: "*.shop.svc"}}
  - {name: pay, match: {authority: "Pay.Shop.svc", path: {prefix: /pay}}}
  - {name: pay-8443, match: {authority: pay.shop.svc, port: 8443}}
  - {name: twin-1, match: {authority: twin}}
  - {name: twin-2, match: {authority: twin}}
  - {name: six, match: {authority: "[fd00::1]"}}
"#;

fn chosen(policy: &Policy, method: &Method, host: &str, port: u16, path: &str) -> String {
    let target = Target {
        host,
        port,
        path,
        method,
    };
    policy.rule(&target).name.to_string()
}

#[test]
fn the_most_specific_route_wins() {
    let policy = Document::parse(ROUTES).unwrap().compile();
    let cases = [
        (Method::GET, "other", 80, "/", "any"),
        (Method::GET, "other", 80, "/v1", "any-v1"),
        (Method::GET, "other", 80, "/v1/", "any-v1"),
        (Method::GET, "other", 80, "/v10", "any"),
        (Method::GET, "other", 80, "/v1/users/7", "any-v1-users"),
        (Method::POST, "other", 80, "/v1/usersx", "any-v1"),
        (Method::POST, "other", 80, "/", "any-post"),
        (Method::POST, "other", 80, "", "any-post"),
        (Method::GET, "other", 80, "", "any"),
        (Method::GET, "a.svc", 80, "/v1", "svc"),
        (Method::GET, "svc", 80, "/", "any"),
        (Method::GET, "a.shop.svc", 80, "/", "shop"),
        (Method::GET, "a.b.shop.svc", 80, "/", "shop"),
        (Method::GET, "xshop.svc", 80, "/", "svc"),
        (Method::GET, "pay.shop.svc", 80, "/pay/1", "pay"),
        (Method::GET, "pay.shop.svc.", 80, "/pay/1", "pay"),
        (Method::GET, "pay.shop.svc", 80, "/other", "shop"),
        (Method::GET, "pay.shop.svc", 8443, "/pay/1", "pay-8443"),
        (Method::GET, "twin", 80, "/", "twin-1"),
        (Method::GET, "[fd00::1]", 80, "/", "six"),
        (Method::GET, "fd00::1", 80, "/", "six"),
        (Method::GET, "", 80, "*", "any"),
    ];
    for (method, host, port, path, expected) in cases {
        let got = chosen(&policy, &method, host, port, path);
        assert_eq!(got, expected, "{method} {host}:{port}{path}");
    }
}

#[test]
fn without_a_match_the_defaults_apply() {
    let text = "{version: weir/v1, routes: [{name: a, match: {authority: a}}]}";
    let policy = Document::parse(text).unwrap().compile();
    assert_eq!(chosen(&policy, &Method::GET, "b", 80, "/"), "defaults");
}

#[test]
fn a_prefix_of_a_slash_is_every_path_but_no_opaque_connection() {
    let text = "{version: weir/v1, routes: [{name: http, match: {path: {prefix: /}}}]}";
    let policy = Document::parse(text).unwrap().compile();
    assert_eq!(chosen(&policy, &Method::GET, "b", 80, "/a/b"), "http");
    assert_eq!(chosen(&policy, &Method::GET, "b", 80, "/"), "http");
    assert_eq!(chosen(&policy, &Method::GET, "b", 80, ""), "defaults");
}

#[test]
fn opaque_ports_are_added_to_the_built_in_ones() {
    let text = "{version: weir/v1, opaquePorts: [9999, 3306]}";
    let policy = Document::parse(text).unwrap().compile();
    assert!(policy.is_opaque_port(9999));
    assert!(policy.is_opaque_port(25));
    assert!(!policy.is_opaque_port(80));
    assert!(!Policy::default().is_opaque_port(9999));
}

/// A route over few hosts, ports, paths and methods, so that many of them match the same call.
fn any_match() -> impl Strategy<Value = Value> {
    let pick = |words: &'static [&'static str]| prop::option::of(prop::sample::select(words));
    (
        pick(&["a", "b.a", "c.b.a", "*.a", "*.b.a", "*"]),
        prop::option::of(80u16..82),
        pick(&["/", "/x", "/x/", "/x/y", "/xy"]),
        pick(&["GET", "POST"]),
    )
        .prop_map(|(authority, port, prefix, method)| {
            let path = prefix.map(|prefix| json!({"prefix": prefix}));
            let methods = method.map(|method| [method]);
            json!({"authority": authority, "port": port, "path": path, "methods": methods})
        })
}

/// How specific a route is if it matches, by the words of the document's definition.
fn specificity(route: &Value, target: &Target<'_>) -> Option<(usize, bool, Option<usize>, bool)> {
    let authority = match route["authority"].as_str().unwrap_or("*") {
        "*" => Some(0),
        suffix if suffix.starts_with('*') => {
            let domain = suffix.trim_start_matches('*');
            target.host.ends_with(domain).then_some(domain.len())
        }
        host => (host == target.host).then_some(1000),
    }?;
    let port = route["port"].as_u64();
    let prefix = route["path"]["prefix"].as_str();
    let prefix = prefix.map(|prefix| prefix.trim_end_matches('/'));
    let segments = |path: &str| -> Vec<String> { path.split('/').map(str::to_owned).collect() };
    let covered = |prefix: &str| segments(target.path).starts_with(&segments(prefix));
    let method = route["methods"][0].as_str();
    let matches = port.is_none_or(|port| port == u64::from(target.port))
        && prefix.is_none_or(|prefix| !target.path.is_empty() && covered(prefix))
        && method.is_none_or(|method| method == target.method.as_str());
    matches.then_some((
        authority,
        port.is_some(),
        prefix.map(str::len),
        method.is_some(),
    ))
}

proptest! {
    #[test]
    fn the_grouped_routes_find_what_a_look_at_every_route_finds(
        routes in prop::collection::vec(any_match(), 0..12),
        host in prop::sample::select(vec!["a", "b.a", "c.b.a", "d.c.b.a", "xa", "x", ""]),
        port in 80u16..83,
        path in prop::sample::select(vec!["", "/", "/x", "/x/", "/x/y", "/x/y/z", "/xy", "/xyz"]),
        post: bool,
    ) {
        let method = if post { Method::POST } else { Method::GET };
        let target = Target { host, port, path, method: &method };
        let named = routes.iter().enumerate();
        let named: Vec<Value> = named
            .map(|(index, route)| json!({"name": format!("r{index}"), "match": route}))
            .collect();
        let document = json!({"version": "weir/v1", "routes": named});
        let policy = Document::from_value(&document).unwrap().compile();
        let matching = routes.iter().enumerate();
        let best = matching
            .filter_map(|(index, route)| Some((specificity(route, &target)?, std::cmp::Reverse(index))))
            .max();
        let expected = best.map_or("defaults".to_owned(), |(_, index)| format!("r{}", index.0));
        prop_assert_eq!(&*policy.rule(&target).name, expected.as_str());
    }
}
