//! What was received, in memory, bounded.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::Kind;
use crate::query::Query;
use crate::record::Record;

/// The spans of one trace, by start time.
pub(crate) type Trace = Vec<Arc<Record>>;

/// At most `capacity` spans; the trace that began to arrive first is forgotten first, and whole.
#[derive(Debug)]
pub(crate) struct Store {
    capacity: usize,
    kept: Mutex<Kept>,
    /// Changes after every insertion, once what was inserted can be read.
    arrivals: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Kept {
    traces: HashMap<u128, HashMap<u64, Arc<Record>>>,
    by_arrival: VecDeque<u128>,
    spans: usize,
}

impl Store {
    pub(crate) fn of(capacity: usize) -> Self {
        Self {
            capacity,
            kept: Mutex::default(),
            arrivals: watch::Sender::default(),
        }
    }

    /// Keeps the spans, replacing those that were sent before.
    pub(crate) fn insert(&self, records: Vec<Record>) {
        let mut kept = self.kept();
        for record in records {
            kept.insert(record);
        }
        kept.forget_beyond(self.capacity);
        drop(kept);
        self.arrivals.send_replace(());
    }

    pub(crate) fn arrivals(&self) -> watch::Receiver<()> {
        self.arrivals.subscribe()
    }

    /// Trace ids in order of arrival.
    pub(crate) fn ids(&self) -> Vec<u128> {
        self.kept().by_arrival.iter().copied().collect()
    }

    pub(crate) fn trace(&self, id: u128) -> Option<Trace> {
        self.kept().traces.get(&id).map(by_start)
    }

    /// Every trace with a span that matches, the latest first.
    pub(crate) fn find(&self, query: &Query) -> Vec<Trace> {
        let mut found: Vec<Trace> = self
            .kept()
            .traces
            .values()
            .filter(|trace| trace.values().any(|record| query.matches(record)))
            .map(by_start)
            .collect();
        found.sort_by_key(|trace| std::cmp::Reverse(trace.first().map(|record| record.span.start_time_unix_nano)));
        found.truncate(query.limit);
        found
    }

    pub(crate) fn services(&self) -> BTreeSet<String> {
        self.kept()
            .records()
            .map(|record| record.origin.service.clone())
            .collect()
    }

    /// Names and kinds of what a service did.
    pub(crate) fn operations(&self, service: &str) -> BTreeSet<(String, Kind)> {
        let kept = self.kept();
        let own = kept.records().filter(|record| record.origin.service == service);
        own.map(|record| (record.span.name.clone(), record.kind())).collect()
    }

    /// How often a span of one service began a span of another, of those that started within `window` (nanoseconds).
    pub(crate) fn calls(&self, window: std::ops::RangeInclusive<u64>) -> BTreeMap<(String, String), u64> {
        let mut calls = BTreeMap::new();
        for trace in self.kept().traces.values() {
            for child in trace
                .values()
                .filter(|child| window.contains(&child.span.start_time_unix_nano))
            {
                let Some(parent) = child.parent_id().and_then(|id| trace.get(&id)) else {
                    continue;
                };
                if parent.origin.service != child.origin.service {
                    *calls
                        .entry((parent.origin.service.clone(), child.origin.service.clone()))
                        .or_default() += 1;
                }
            }
        }
        calls
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn insert(&mut self, record: Record) {
        let trace = self.traces.entry(record.trace_id).or_insert_with(|| {
            self.by_arrival.push_back(record.trace_id);
            HashMap::new()
        });
        if trace.insert(record.span_id, Arc::new(record)).is_none() {
            self.spans += 1;
        }
    }

    fn forget_beyond(&mut self, capacity: usize) {
        while self.spans > capacity {
            let Some(oldest) = self.by_arrival.pop_front() else {
                return;
            };
            self.spans -= self.traces.remove(&oldest).map_or(0, |trace| trace.len());
        }
    }

    fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.traces.values().flat_map(HashMap::values)
    }
}

fn by_start(trace: &HashMap<u64, Arc<Record>>) -> Trace {
    let mut spans: Trace = trace.values().cloned().collect();
    spans.sort_by_key(|record| (record.span.start_time_unix_nano, record.span_id));
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(trace_id: u128, span_id: u64) -> Record {
        let origin = crate::record::Origin {
            service: "order".into(),
            attributes: Vec::new(),
        };
        Record {
            trace_id,
            span_id,
            origin: Arc::new(origin),
            scope: Arc::default(),
            span: Default::default(),
        }
    }

    #[test]
    fn counts_a_span_sent_twice_once() {
        let store = Store::of(2);
        store.insert(vec![record(1, 1), record(2, 2)]);
        store.insert(vec![record(1, 1), record(2, 2)]);
        assert_eq!(store.ids(), [1, 2]);
        assert_eq!(store.trace(1).unwrap().len(), 1);
    }

    #[test]
    fn never_holds_more_than_its_capacity() {
        let store = Store::of(3);
        store.insert((1..=4).map(|span_id| record(1, span_id)).collect());
        assert!(store.ids().is_empty());
        store.insert(vec![record(1, 5)]);
        assert_eq!(store.trace(1).unwrap().len(), 1);
    }
}
