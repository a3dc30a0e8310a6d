//! Pace: batches begin so far apart that the next one is worth its transaction.
//!
//! Whoever takes each event the moment it arrives pays for a transaction each, and the busier the shop
//! is the less it can afford that. A few milliseconds between two beginnings make one batch of what
//! would have been ten; after a quiet moment nobody waits at all.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The least time between the beginnings of two batches of one worker.
const GAP: Duration = Duration::from_millis(5);

/// When the last batch began.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    begun: Option<Instant>,
}

impl Pace {
    /// Waits until the next batch may begin; not at all after a quiet moment.
    pub(crate) async fn wait(&mut self) {
        if let Some(begun) = self.begun {
            sleep_until(begun + GAP).await;
        }
        self.begun = Some(Instant::now());
    }
}
