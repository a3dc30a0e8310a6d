//! The end of the log, as it is told while it grows.

use std::time::Duration;

use futures_util::FutureExt;
use pgwire_replication::{Lsn, PgWireError, ReplicationClient, ReplicationEvent};
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout};

use super::pgoutput::Decoder;
use super::row::Row;
use super::slot::{self, SILENCE};

/// A row that was committed.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) row: Row,
    /// Where in the log.
    pub(crate) committed: u64,
    /// By which transaction.
    pub(crate) writer: u32,
}

/// Why the log cannot be read any further.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Broken {
    #[error("{0}")]
    Server(String),
    #[error("the server has ended it")]
    Ended,
    #[error("the server has said nothing for {0:?}")]
    Silent(Duration),
    #[error("not understood: {0}")]
    Strange(String),
}

impl Broken {
    /// Whether the same slot would fail again.
    pub(crate) fn slot_is_useless(&self) -> bool {
        match self {
            Self::Server(error) => slot::is_useless(error),
            Self::Strange(_) => true,
            Self::Ended | Self::Silent(_) => false,
        }
    }
}

/// What the log tells, and how far it was heard.
pub(crate) struct Tail {
    client: ReplicationClient,
    decoder: Decoder,
    /// Heard and not asked for yet.
    heard: Vec<Change>,
    /// Place and number of the transaction that is being told.
    transaction: (u64, u32),
    /// Everything that was committed before is heard.
    complete: Lsn,
    heard_at: Instant,
    broken: Option<Broken>,
}

impl Tail {
    pub(crate) fn of(client: ReplicationClient) -> Self {
        Self {
            client,
            decoder: Decoder::default(),
            heard: Vec::new(),
            transaction: (0, 0),
            complete: Lsn(0),
            heard_at: Instant::now(),
            broken: None,
        }
    }

    /// All that was told so far, in the order of commits, up to a limit; does not wait.
    pub(crate) fn told(&mut self, limit: i64) -> Result<Vec<Change>, Broken> {
        while self.broken.is_none() && self.heard.len() < limit.unsigned_abs() as usize {
            let Some(event) = unconstrained(self.client.recv()).now_or_never() else {
                break;
            };
            self.hear(event);
        }
        match self.broken.clone() {
            Some(broken) => Err(broken),
            None => Ok(std::mem::take(&mut self.heard)),
        }
    }

    /// Waits until something is told, or so long.
    pub(crate) async fn wait(&mut self, at_most: Duration) {
        if self.broken.is_some() {
            return;
        }
        match timeout(at_most, self.client.recv()).await {
            Ok(event) => self.hear(event),
            Err(_) if self.heard_at.elapsed() > SILENCE => self.broken = Some(Broken::Silent(SILENCE)),
            Err(_) => {}
        }
    }

    /// What was told is settled for good. On an idle outbox only the signs of life of the server were told.
    pub(crate) fn confirm(&self) {
        if self.heard.is_empty() {
            self.client.update_applied_lsn(self.complete);
        }
    }

    fn hear(&mut self, event: Result<Option<ReplicationEvent>, PgWireError>) {
        use ReplicationEvent::{Begin, Commit, KeepAlive, XLogData};
        self.heard_at = Instant::now();
        match event {
            Ok(Some(Begin { final_lsn, xid, .. })) => self.transaction = (final_lsn.as_u64(), xid),
            Ok(Some(XLogData { data, .. })) => match self.decoder.decode(data) {
                Ok(row) => self.heard.extend(row.map(|row| Change {
                    row,
                    committed: self.transaction.0,
                    writer: self.transaction.1,
                })),
                Err(error) => self.broken = Some(Broken::Strange(format!("{error:#}"))),
            },
            Ok(Some(Commit { end_lsn: end, .. } | KeepAlive { wal_end: end, .. })) => {
                self.complete = self.complete.max(end);
            }
            Ok(Some(_)) => {}
            Ok(None) => self.broken = Some(Broken::Ended),
            Err(error) => self.broken = Some(Broken::Server(error.to_string())),
        }
    }
}
