//! Finds the most specific route for a call.
//!
//! Routes are grouped by authority, so a call looks at the routes of its own host, of the domains above it, and of any
//! host, in this order; each group is sorted so that its first match is its best one.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use http::Method;

use super::matching::{Authority, Match, Target, bare_host, covers};
use super::rule::Rule;

/// The routes of a policy, grouped by authority.
#[derive(Debug, Clone, Default)]
pub(super) struct Routes {
    hosts: HashMap<String, Vec<Candidate>>,
    domains: HashMap<String, Vec<Candidate>>,
    /// Length of the longest key of `domains`: longer ends of a host need no look-up.
    domain_bytes_max: usize,
    any: Vec<Candidate>,
}

/// One route of an authority.
#[derive(Debug, Clone)]
struct Candidate {
    port: Option<u16>,
    /// Without a slash at its end.
    path_prefix: Option<String>,
    methods: Vec<Method>,
    rule: Arc<Rule>,
}

impl Routes {
    /// The routes, from those of a document in its order.
    pub(super) fn new(routes: Vec<(Match, Rule)>) -> Self {
        let mut grouped = Self::default();
        for (matches, rule) in routes {
            let candidate = Candidate {
                port: matches.port,
                path_prefix: matches
                    .path_prefix
                    .map(|prefix| prefix.trim_end_matches('/').to_owned()),
                methods: matches.methods,
                rule: Arc::new(rule),
            };
            match matches.authority {
                Authority::Exact(host) => grouped.hosts.entry(host).or_default(),
                Authority::Suffix(domain) => grouped.domains.entry(domain).or_default(),
                Authority::Any => &mut grouped.any,
            }
            .push(candidate);
        }
        let groups = grouped.hosts.values_mut();
        for group in groups.chain(grouped.domains.values_mut()) {
            most_specific_first(group);
        }
        most_specific_first(&mut grouped.any);
        grouped.domain_bytes_max = grouped.domains.keys().map(String::len).max().unwrap_or(0);
        grouped
    }

    /// The rule of the most specific route for a call, if any matches.
    pub(super) fn find(&self, target: &Target<'_>) -> Option<&Arc<Rule>> {
        let host = bare_host(target.host);
        self.of_host(host, target)
            .or_else(|| self.of_domain(host, target))
            .or_else(|| first(&self.any, target))
    }

    fn of_host(&self, host: &str, target: &Target<'_>) -> Option<&Arc<Rule>> {
        if self.hosts.is_empty() {
            return None;
        }
        first(self.hosts.get(host)?, target)
    }

    /// Walks up the domains above `host`: `a.b.c` is below `b.c`, which is below `c`.
    fn of_domain(&self, host: &str, target: &Target<'_>) -> Option<&Arc<Rule>> {
        if self.domains.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some((_, domain)) = rest.split_once('.') {
            rest = domain;
            if domain.len() > self.domain_bytes_max {
                continue;
            }
            let found = self
                .domains
                .get(domain)
                .and_then(|group| first(group, target));
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

impl Candidate {
    fn accepts(&self, target: &Target<'_>) -> bool {
        self.port.is_none_or(|port| port == target.port)
            && self
                .path_prefix
                .as_deref()
                .is_none_or(|prefix| covers(prefix, target.path))
            && (self.methods.is_empty() || self.methods.contains(target.method))
    }
}

fn first<'a>(group: &'a [Candidate], target: &Target<'_>) -> Option<&'a Arc<Rule>> {
    group
        .iter()
        .find(|candidate| candidate.accepts(target))
        .map(|candidate| &candidate.rule)
}

/// Named ports first, then longer prefixes, then named methods. The sort is stable: at last the document's order counts.
fn most_specific_first(group: &mut [Candidate]) {
    group.sort_by_key(|candidate| {
        Reverse((
            candidate.port.is_some(),
            candidate.path_prefix.as_ref().map(String::len),
            !candidate.methods.is_empty(),
        ))
    });
}
