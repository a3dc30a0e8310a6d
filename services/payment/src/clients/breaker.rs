//! A circuit breaker: while the gateway cannot be reached, only one call a second tries whether it can be again.
//!
//! Only calls without an answer count. An error that the gateway answers with, even a 503, may be the trouble of
//! one card, and so may a charge that takes too long: the customers with the other cards must not wait for it. A
//! gateway that hangs is found out by the look-ups that follow such charges.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::metrics::Gauge;

/// After so many unanswered calls in a row it opens.
const FAILURES: u32 = 5;
/// How long until the next probe.
const PAUSE: Duration = Duration::from_secs(1);

/// The state of one gateway's breaker.
#[derive(Debug)]
pub struct Breaker {
    state: Mutex<State>,
    open: Gauge<u64>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// While it is open: when the next probe may go out.
    probe_at: Option<Instant>,
}

impl Default for Breaker {
    fn default() -> Self {
        let open = telemetry::metrics::meter()
            .u64_gauge("shop.gateway.breaker.open")
            .build();
        open.record(0, &[]);
        Self {
            state: Mutex::default(),
            open,
        }
    }
}

impl Breaker {
    /// How many of the `wanted` calls may go out now: all, or one probe, or none.
    pub fn admit(&self, wanted: i64, now: Instant) -> i64 {
        let mut state = self.state();
        match state.probe_at {
            None => wanted,
            Some(probe_at) if probe_at <= now => {
                state.probe_at = Some(now + PAUSE);
                wanted.min(1)
            }
            Some(_) => 0,
        }
    }

    /// There was nothing to call for after all: a probe that was admitted may go to somebody else.
    pub fn give_back(&self, now: Instant) {
        if let Some(probe_at) = &mut self.state().probe_at {
            *probe_at = now;
        }
    }

    /// How long until a call may go out; zero while it is closed.
    pub fn pause(&self, now: Instant) -> Duration {
        let probe_at = self.state().probe_at;
        probe_at.map_or(Duration::ZERO, |probe_at| probe_at.saturating_duration_since(now))
    }

    /// A call was answered, whatever with.
    pub fn answered(&self) {
        let mut state = self.state();
        if state.probe_at.is_some() {
            tracing::info!("the gateway answers again");
            self.open.record(0, &[]);
        }
        *state = State::default();
    }

    /// A call found nobody, or no answer in time.
    pub fn unanswered(&self, now: Instant) {
        let mut state = self.state();
        state.failures += 1;
        if state.failures >= FAILURES && state.probe_at.replace(now + PAUSE).is_none() {
            tracing::error!(
                failures = state.failures,
                "the gateway does not answer, trying once a second"
            );
            self.open.record(1, &[]);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_five_failures_in_a_row_and_not_before() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        (1..FAILURES).for_each(|_| breaker.unanswered(now));
        breaker.answered();
        (1..FAILURES).for_each(|_| breaker.unanswered(now));
        assert_eq!(breaker.admit(64, now), 64, "an answer in between starts the count anew");
        breaker.unanswered(now);
        assert_eq!(breaker.admit(64, now), 0);
        assert_eq!(breaker.pause(now), PAUSE);
    }

    #[test]
    fn lets_one_probe_through_a_second_until_one_is_answered() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        (0..FAILURES).for_each(|_| breaker.unanswered(now));
        let later = now + PAUSE;
        assert_eq!((breaker.admit(64, later), breaker.admit(64, later)), (1, 0));
        breaker.unanswered(later);
        assert_eq!(breaker.admit(64, later), 0);
        assert_eq!(breaker.admit(64, later + PAUSE), 1);
        breaker.give_back(later + PAUSE);
        assert_eq!(breaker.admit(64, later + PAUSE), 1);
        breaker.answered();
        assert_eq!((breaker.admit(64, later), breaker.pause(later)), (64, Duration::ZERO));
    }
}
