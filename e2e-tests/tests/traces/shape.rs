//! The shape of a trace: who did what because of what, whatever the ids, the times and the batches.

use std::collections::BTreeMap;

use trace_viewer::{Kind, Span};

/// Told by order when the last of several facts has come, whichever that is: no golden parent.
const JOINS: [&str; 2] = ["create shop.order.OrderCancelled", "create shop.order.OrderRefunded"];
/// Sums a batch up, so its parent is whatever the batch ended with.
const SUMMARY: &str = "create shop.inventory.StockLevelChanged";

/// One indented line for each span, siblings in alphabetical order. What joins several branches is written below them.
pub(crate) fn of(spans: &[Span]) -> String {
    let tree = Tree::of(spans);
    let known: Vec<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
    let is_root = |span: &&Span| span.parent_id.as_deref().is_none_or(|parent| !known.contains(&parent));
    let roots = spans.iter().filter(is_root);
    let mut text = tree.texts(roots, 0).concat();
    for name in JOINS {
        for joined in spans.iter().filter(|span| span.name == name) {
            let facts = spans
                .iter()
                .find(|span| Some(&span.span_id) == joined.parent_id.as_ref());
            assert!(
                facts.is_some_and(|fact| fact.kind == Kind::Consumer && fact.service == joined.service),
                "{name} follows from no fact"
            );
            text.push_str("\nwhen the last of its facts has come\n");
            text.push_str(&tree.text(joined, 1));
        }
    }
    text
}

struct Tree<'a>(BTreeMap<&'a str, Vec<&'a Span>>);

impl<'a> Tree<'a> {
    fn of(spans: &'a [Span]) -> Self {
        let mut children: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
        for span in spans.iter().filter(|span| !JOINS.contains(&span.name.as_str())) {
            if let Some(parent) = &span.parent_id {
                children.entry(parent).or_default().push(span);
            }
        }
        Self(children)
    }

    /// Of several redeliveries of one event to one service the shape knows one.
    fn texts(&self, spans: impl Iterator<Item = &'a Span>, depth: usize) -> Vec<String> {
        let shown = spans.filter(|span| span.name != SUMMARY);
        let mut texts: Vec<(bool, String)> = shown.map(|span| (is_again(span), self.text(span, depth))).collect();
        texts.sort_by(|(_, one), (_, other)| one.cmp(other));
        texts.dedup_by(|(again, one), (_, other)| *again && one == other);
        texts.into_iter().map(|(_, text)| text).collect()
    }

    fn text(&self, span: &'a Span, depth: usize) -> String {
        let again = if is_again(span) { ", again" } else { "" };
        let line = format!(
            "{}{} {} {}{again}\n",
            "  ".repeat(depth),
            span.service,
            span.kind,
            span.name
        );
        let children = self.0.get(span.span_id.as_str()).into_iter().flatten().copied();
        line + &self.texts(children, depth + 1).concat()
    }
}

/// Whether the inbox knew the event already.
pub(crate) fn is_again(span: &Span) -> bool {
    span.attributes
        .get("shop.inbox.duplicate")
        .is_some_and(|known| known == "true")
}
