//! How far a replay is, for whoever looks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::Plan;
use crate::provision::Hears;

/// What a replay is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// None was asked for since the process started.
    Idle,
    /// Making the tables.
    Preparing,
    /// Reading the streams.
    Reading,
    /// Waiting until the live service has heard what was read.
    Waiting,
    /// Reading what the live service has heard since; from here on it waits.
    Settling,
    /// Comparing with the live tables.
    Comparing,
    /// Putting the tables in place.
    Exchanging,
    /// Correcting single orders.
    Mending,
    /// Done.
    Done,
    /// Given up; the live tables are as they were.
    Failed,
}

/// How far one stream has been read.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Progress {
    /// Events read.
    pub read: u64,
    /// Of so many that it holds, as far as is known.
    pub of: u64,
}

/// What was found in one table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Table {
    /// In how many rows live and replayed table differ.
    pub differing: u64,
    /// Some of them.
    pub differences: Vec<Difference>,
    /// In a replay of a period: what the sums of it are.
    pub rows: Vec<Value>,
}

/// A row of which the live table says something else than the events.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// Its key.
    pub key: String,
    /// As it is, or was before it was corrected.
    pub live: Option<Value>,
    /// As the events say.
    pub rebuilt: Option<Value>,
}

/// A replay, from the outside.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What it is at.
    pub phase: Phase,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// By stream.
    pub streams: BTreeMap<&'static str, Progress>,
    /// Events whose effect is in the replayed tables.
    pub replayed: u64,
    /// By table.
    pub tables: BTreeMap<&'static str, Table>,
    /// Events that the live service has heard and the streams no longer hold.
    pub lost: u64,
    /// Events that the live service had not heard when the tables were compared.
    pub ahead: u64,
    /// Whether the replayed tables are the live ones now.
    pub exchanged: bool,
    /// How long the consumer had to wait for it, in milliseconds.
    pub consumer_waited_ms: u64,
    /// Orders that were corrected one by one.
    pub mended: u64,
    /// Why it was given up.
    pub error: Option<String>,
}

/// Shares the report between the replay and those who look.
#[derive(Debug, Clone)]
pub(super) struct Watch(Arc<Mutex<Report>>);

impl Watch {
    pub(super) fn of(hears: &Hears) -> Self {
        let streams = hears.subjects.keys().map(|stream| (*stream, Progress::default()));
        Self(Arc::new(Mutex::new(Report {
            phase: Phase::Idle,
            started_at: None,
            ended_at: None,
            streams: streams.collect(),
            replayed: 0,
            tables: BTreeMap::new(),
            lost: 0,
            ahead: 0,
            exchanged: false,
            consumer_waited_ms: 0,
            mended: 0,
            error: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if one is under way.
    pub(super) fn begin(&self, plan: &Plan) -> bool {
        let mut report = self.lock();
        if ![Phase::Idle, Phase::Done, Phase::Failed].contains(&report.phase) {
            return false;
        }
        let streams = report.streams.keys().map(|stream| (*stream, Progress::default()));
        *report = Report {
            phase: Phase::Preparing,
            started_at: Some(Utc::now()),
            streams: streams.collect(),
            ..Self::of_nothing()
        };
        tracing::info!(?plan, "a replay begins");
        true
    }

    fn of_nothing() -> Report {
        let nothing = Hears {
            service: "",
            subjects: BTreeMap::new(),
        };
        Self::of(&nothing).look()
    }

    pub(super) fn end(&self, outcome: anyhow::Result<()>) {
        let mut report = self.lock();
        report.ended_at = Some(Utc::now());
        match outcome {
            Ok(()) => {
                report.phase = Phase::Done;
                tracing::info!(
                    events = report.replayed,
                    exchanged = report.exchanged,
                    "a replay is done"
                );
            }
            Err(error) => {
                report.phase = Phase::Failed;
                let reason = format!("{error:#}");
                tracing::warn!(
                    error = reason,
                    "a replay was given up; the live tables are as they were"
                );
                report.error = Some(reason);
            }
        }
    }

    pub(super) fn look(&self) -> Report {
        self.lock().clone()
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.lock());
    }
}
