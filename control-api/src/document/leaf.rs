//! Reads the values at the ends of a document: lengths, sizes, ratios, ports, methods.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::Method;

use super::error::Findings;
use super::quantity::{ByteSize, Length, Ratio};
use super::reader::{Node, within};
use super::settings::{OrAuto, OrNone};

/// A TCP port.
pub(super) fn port(node: &Node<'_>, findings: &mut Findings) -> Option<u16> {
    let number = node.integer(1..=u32::from(u16::MAX), findings)?;
    u16::try_from(number).ok()
}

/// A list of HTTP methods, each once.
pub(super) fn methods(node: &Node<'_>, findings: &mut Findings) -> Option<Vec<Method>> {
    let mut methods = Vec::new();
    let mut are_methods = true;
    for item in node.items(METHODS_MAX, findings)? {
        match method(&item, findings) {
            Some(method) if !methods.contains(&method) => methods.push(method),
            Some(_) => {}
            None => are_methods = false,
        }
    }
    are_methods.then_some(methods)
}

fn method(node: &Node<'_>, findings: &mut Findings) -> Option<Method> {
    let text = node.text().unwrap_or_default();
    // RFC 9110 §9.1: methods are case-sensitive, and all registered ones are upper case.
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        node.is_not(
            format_args!("a method: they are in upper case, {}", text.to_uppercase()),
            findings,
        );
        return None;
    }
    let method = Method::from_bytes(text.as_bytes())
        .ok()
        .filter(|_| text.len() <= METHOD_BYTES_MAX);
    if method.is_none() {
        node.is_not("an HTTP method", findings);
    }
    method
}

pub(super) fn ratio(node: &Node<'_>, findings: &mut Findings) -> Option<Ratio> {
    let number = node.scalar().filter(|_| node.text().is_none());
    let Some(ratio) = number.as_deref().and_then(Ratio::parse) else {
        node.is_not(
            "a number between 0 and 1 with at most three decimals",
            findings,
        );
        return None;
    };
    let bounds = Ratio { milli: 0 }..=RATIO_MAX;
    within(Some(ratio), bounds, ratio, node.pointer(), findings)
}

pub(super) fn body_bytes_max(node: &Node<'_>, findings: &mut Findings) -> Option<ByteSize> {
    let size = match node.text() {
        Some(text) => ByteSize::parse(text),
        // A bare number is a number of bytes.
        None => node
            .scalar()
            .and_then(|number| ByteSize::parse(&format!("{number}B"))),
    };
    let Some(size) = size else {
        node.is_not(
            "a size; write a whole number with its unit, such as 64KiB",
            findings,
        );
        return None;
    };
    let bounds = ByteSize(0)..=BODY_BYTES_MAX;
    within(Some(size), bounds, size, node.pointer(), findings)
}

pub(super) fn length(
    node: &Node<'_>,
    range: (Duration, Duration),
    findings: &mut Findings,
) -> Option<Length> {
    let Some(length) = node.text().and_then(Length::parse) else {
        node.is_not(
            "a length of time; write a whole number with its unit, such as 250ms or 10s",
            findings,
        );
        return None;
    };
    within(
        Some(length),
        bounds(range),
        length,
        node.pointer(),
        findings,
    )
}

pub(super) fn bounds((min, max): (Duration, Duration)) -> RangeInclusive<Length> {
    Length(min)..=Length(max)
}

pub(super) fn or_none<'a, T>(
    node: &Node<'a>,
    findings: &mut Findings,
    read: impl FnOnce(&Node<'a>, &mut Findings) -> Option<T>,
) -> Option<OrNone<T>> {
    if node.is_word("none") {
        return Some(OrNone::None);
    }
    read(node, findings).map(OrNone::Some)
}

pub(super) fn or_auto<'a, T>(
    node: &Node<'a>,
    findings: &mut Findings,
    read: impl FnOnce(&Node<'a>, &mut Findings) -> Option<T>,
) -> Option<OrAuto<T>> {
    if node.is_word("auto") {
        return Some(OrAuto::Auto);
    }
    read(node, findings).map(OrAuto::Fixed)
}

/// Most methods in a list.
const METHODS_MAX: usize = 32;
/// Longest HTTP method, in bytes; the longest registered one has 17.
const METHOD_BYTES_MAX: usize = 32;
/// Highest ratio of a budget: a retry for every success doubles the load.
const RATIO_MAX: Ratio = Ratio { milli: 1000 };
/// Largest body that is kept for a replay. Every call in flight may hold one.
const BODY_BYTES_MAX: ByteSize = ByteSize(16 * 1024 * 1024);
