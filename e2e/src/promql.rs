//! Which metrics and labels a PromQL expression goes by. It reads names only; whether the grammar is right, promtool says.

use std::collections::BTreeSet;

/// What an expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Its metrics, as often as they occur. What is no known function or word is taken for one.
    pub selectors: Vec<Selector>,
    /// Labels that it groups or matches by.
    pub labels: BTreeSet<String>,
}

/// A metric, and what its labels must be.
#[derive(Debug, PartialEq, Eq)]
pub struct Selector {
    /// Its name.
    pub metric: String,
    /// Its matchers.
    pub matchers: Vec<Matcher>,
}

/// What one label must be.
#[derive(Debug, PartialEq, Eq)]
pub struct Matcher {
    /// The label.
    pub label: String,
    /// The values that are named, without variables of Grafana: one, or the branches of a regular expression.
    pub values: Vec<String>,
}

/// Reads an expression.
pub fn names(expression: &str) -> Names {
    let mut names = Names::default();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let word = leading_word(rest);
        if !word.is_empty() {
            rest = after_word(word, &rest[word.len()..], &mut names);
        } else if first == '[' {
            // A range: its length is no name.
            rest = after(rest, ']');
        } else if first == '"' || first == '\'' {
            rest = after(&rest[1..], first);
        } else if first == '$' {
            rest = &rest[1 + leading_word(&rest[1..]).len()..];
        } else if first.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            rest = &rest[end.unwrap_or(rest.len())..];
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    names
}

/// What follows `word`, with the labels or matchers that belong to it read.
fn after_word<'a>(word: &str, rest: &'a str, names: &mut Names) -> &'a str {
    let follows = rest.trim_start();
    if LABEL_LISTS.contains(&word) {
        let Some(list) = follows.strip_prefix('(') else {
            return rest;
        };
        let (labels, rest) = list.split_once(')').unwrap_or((list, ""));
        let labels = labels.split(',').map(|label| label.trim().to_owned());
        names
            .labels
            .extend(labels.filter(|label| !label.is_empty()));
        return rest;
    }
    if WORDS.contains(&word) {
        return rest;
    }
    let (matchers, rest) = match follows.strip_prefix('{') {
        Some(inner) => matchers(inner),
        None => (Vec::new(), rest),
    };
    names.selectors.push(Selector {
        metric: word.to_owned(),
        matchers,
    });
    rest
}

/// The matchers up to the closing brace, and what follows it.
fn matchers(mut rest: &str) -> (Vec<Matcher>, &str) {
    let mut all = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return (all, rest);
        }
        let label = leading_word(rest);
        let Some((operator, quoted)) = rest[label.len()..].split_once('"') else {
            return (all, "");
        };
        let (value, follows) = quoted.split_once('"').unwrap_or((quoted, ""));
        let is_pattern = operator.contains('~');
        let branches = value.split(if is_pattern { '|' } else { '\0' });
        let values = branches.filter(|value| !value.contains('$'));
        all.push(Matcher {
            label: label.to_owned(),
            values: values.map(str::to_owned).collect(),
        });
        rest = follows;
    }
}

fn leading_word(text: &str) -> &str {
    let is_first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':');
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    if is_first {
        &text[..end.unwrap_or(text.len())]
    } else {
        ""
    }
}

fn after(text: &str, end: char) -> &str {
    text.split_once(end).map_or("", |(_, rest)| rest)
}

/// Words that a list of labels follows.
const LABEL_LISTS: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];

/// Operators, aggregations and functions, as far as ours are used.
const WORDS: [&str; 21] = [
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "sum",
    "min",
    "max",
    "avg",
    "count",
    "topk",
    "rate",
    "increase",
    "changes",
    "absent",
    "time",
    "histogram_quantile",
    "avg_over_time",
    "max_over_time",
    "min_over_time",
    "clamp_min",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_matchers_and_labels_are_told_from_functions_and_numbers() {
        let names = names(
            r#"histogram_quantile(0.99, sum by (le, pod) (rate(a_bucket{x="1",y=~"b|c",ns=~"$namespace"}[$__rate_interval]))) > 5e3
               and on (zone) b_total == time() - wrong(c)"#,
        );
        let metrics: Vec<&str> = names.selectors.iter().map(|one| &*one.metric).collect();
        assert_eq!(metrics, ["a_bucket", "b_total", "wrong", "c"]);
        let values: Vec<&[String]> = names.selectors[0]
            .matchers
            .iter()
            .map(|matcher| &*matcher.values)
            .collect();
        assert_eq!(values, [&["1"][..], &["b", "c"], &[]]);
        assert_eq!(
            names.labels.into_iter().collect::<Vec<_>>(),
            ["le", "pod", "zone"]
        );
    }
}
