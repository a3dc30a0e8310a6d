//! Which metrics an expression of PromQL is about. Whether it is well-formed is for Prometheus to say.

use std::collections::BTreeSet;

const KEYWORDS: [&str; 8] = ["and", "or", "unless", "by", "without", "on", "ignoring", "offset"];

/// The names of metrics in an expression: what is neither a function, a label, a number nor a keyword.
pub(crate) fn metrics(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let bare = without(&without(expression, '{', '}'), '[', ']');
    let mut rest = bare.as_str();
    while let Some(begin) = rest.find(is_name) {
        rest = &rest[begin..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        let next = after.trim_start();
        let is_called = ["(", "by ", "without "].iter().any(|begin| next.starts_with(begin));
        if KEYWORDS.contains(&name) {
            // The labels of `by (…)` and its kind.
            if is_called && !["and", "or", "unless"].contains(&name) {
                rest = after.split_once(')').map_or("", |(_, rest)| rest);
            } else if name == "offset" {
                rest = after.trim_start().trim_start_matches(is_name);
            }
        } else if !is_called && !name.starts_with(|c: char| c.is_ascii_digit()) {
            found.insert(name.to_owned());
        }
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// The text without what stands in such brackets.
fn without(text: &str, open: char, close: char) -> String {
    let mut kept = String::new();
    let mut depth = 0;
    for c in text.chars() {
        depth += i32::from(c == open);
        if depth == 0 {
            kept.push(c);
        }
        depth -= i32::from(c == close);
    }
    kept
}

#[test]
fn metrics_are_told_from_functions_labels_and_numbers() {
    let all = |expression| metrics(expression).into_iter().collect::<Vec<_>>();
    let quantile = "histogram_quantile(0.99, sum by (service, le) (rate(a_bucket{x=\"b_c\"}[5m]))) > 1e3";
    assert_eq!(all(quantile), ["a_bucket"]);
    assert_eq!(
        all("sum(a + b) > 0 unless on (service) rate(c_total[5m])"),
        ["a", "b", "c_total"]
    );
    assert_eq!(all("absent(up{service=\"order\"}) or vector(0)"), ["up"]);
    assert_eq!(all("max(a) by (b) offset 5m"), ["a"]);
}
