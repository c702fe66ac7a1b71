use http::Method;

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
