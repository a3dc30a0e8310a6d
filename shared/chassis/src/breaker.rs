//! A circuit breaker: while a peer cannot be reached, only one call a second tries whether it can be again; once it
//! can, what has piled up meanwhile is let out at little more than the usual rate, so that it is not knocked over.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Gauge;

/// After so many unanswered calls in a row it opens.
const FAILURES: u32 = 5;
/// How long until the next probe.
const PAUSE: Duration = Duration::from_secs(1);
/// How much faster than usual a backlog is worked off.
const HASTE: f64 = 1.25;
/// Working off what piled up at that haste takes so many times the outage.
const RECOVERY: u32 = 4;
/// The slowest usual rate that is assumed, in calls a second.
const SLOWEST: f64 = 20.0;
/// How much the last second weighs in the usual rate.
const WEIGHT: f64 = 0.2;

/// The state of one peer's breaker.
#[derive(Debug)]
pub struct Breaker {
    peer: &'static str,
    state: Mutex<State>,
    open: Gauge<u64>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Since when it is open, and when the next probe may go out.
    outage: Option<(Instant, Instant)>,
    recovery: Option<Recovery>,
    usual: Usual,
}

/// A backlog that is worked off.
#[derive(Debug)]
struct Recovery {
    ends: Instant,
    /// Calls that may go out, as of `counted`.
    tokens: f64,
    counted: Instant,
    /// Tokens a second.
    rate: f64,
}

/// Calls answered a second while all is well.
#[derive(Debug, Default)]
struct Usual {
    rate: f64,
    second: Option<Instant>,
    answers: u32,
}

impl Breaker {
    /// A closed breaker before this peer.
    pub fn before(peer: &'static str) -> Self {
        let breaker = Self {
            peer,
            state: Mutex::default(),
            open: telemetry::metrics::meter()
                .u64_gauge("shop.breaker.open")
                .with_description("1 while a peer is taken to be away and only probed, else 0")
                .build(),
        };
        breaker.show(0);
        breaker
    }

    /// How many of the `wanted` calls may go out now: all, or as many as a recovering peer bears, or one probe, or none.
    pub fn admit(&self, wanted: i64, now: Instant) -> i64 {
        let mut state = self.state();
        if let Some((_, probe_at)) = &mut state.outage {
            if *probe_at > now {
                return 0;
            }
            *probe_at = now + PAUSE;
            return wanted.min(1);
        }
        state.recovery.take_if(|recovery| recovery.ends <= now);
        state
            .recovery
            .as_mut()
            .map_or(wanted, |recovery| recovery.spend(wanted, now))
    }

    /// So many of the admitted calls were not made after all: somebody else may make them.
    pub fn give_back(&self, unused: i64, now: Instant) {
        let mut state = self.state();
        match (&mut state.outage, unused > 0) {
            (Some((_, probe_at)), true) => *probe_at = now,
            (None, true) => state
                .recovery
                .iter_mut()
                .for_each(|recovery| recovery.tokens += unused as f64),
            (_, false) => {}
        }
    }

    /// Whether the peer is taken to be away.
    pub fn is_open(&self) -> bool {
        self.state().outage.is_some()
    }

    /// How long until a call may go out; zero while it is closed.
    pub fn pause(&self, now: Instant) -> Duration {
        let state = self.state();
        match (&state.outage, &state.recovery) {
            (Some((_, probe_at)), _) => probe_at.saturating_duration_since(now),
            (None, Some(recovery)) => recovery.until_next(now),
            (None, None) => Duration::ZERO,
        }
    }

    /// A call was answered, whatever with.
    pub fn answered(&self, now: Instant) {
        let mut state = self.state();
        state.failures = 0;
        if let Some((since, _)) = state.outage.take() {
            let rate = state.usual.rate.max(SLOWEST) * HASTE;
            state.recovery = Some(Recovery {
                ends: now + (now - since) * RECOVERY,
                tokens: 1.0,
                counted: now,
                rate,
            });
            tracing::info!(peer = self.peer, calls_a_second = rate, "answers again");
            self.show(0);
        } else if state.recovery.is_none() {
            state.usual.count(now);
        }
    }

    /// A call found nobody, or no answer in time.
    pub fn unanswered(&self, now: Instant) {
        let mut state = self.state();
        state.failures += 1;
        if state.failures < FAILURES {
            return;
        }
        let since = state.outage.map_or(now, |(since, _)| since);
        if state.outage.replace((since, now + PAUSE)).is_none() {
            tracing::error!(
                peer = self.peer,
                failures = state.failures,
                "does not answer, trying once a second"
            );
            self.show(1);
        }
    }

    fn show(&self, open: u64) {
        self.open.record(open, &[KeyValue::new("peer", self.peer)]);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recovery {
    fn spend(&mut self, wanted: i64, now: Instant) -> i64 {
        // A tenth of a second's worth at once: more would be a burst.
        let at_most = (self.rate / 10.0).max(1.0);
        let earned = (now - self.counted).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + earned).min(at_most);
        self.counted = now;
        let spent = wanted.min(self.tokens as i64);
        self.tokens -= spent as f64;
        spent
    }

    fn until_next(&self, now: Instant) -> Duration {
        let earned = now.saturating_duration_since(self.counted).as_secs_f64() * self.rate;
        Duration::from_secs_f64((1.0 - self.tokens - earned).max(0.0) / self.rate)
    }
}

impl Usual {
    fn count(&mut self, now: Instant) {
        let second = self.second.get_or_insert(now);
        let passed = (now - *second).as_secs();
        if passed > 0 {
            *second = now;
            self.rate = self.rate * (1.0 - WEIGHT) + f64::from(self.answers) * WEIGHT;
            // Seconds without any answer weigh as well.
            self.rate *= (1.0 - WEIGHT).powi(passed.min(1_000) as i32 - 1);
            self.answers = 0;
        }
        self.answers += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A breaker that opened just now.
    fn open(now: Instant) -> Breaker {
        let breaker = Breaker::before("peer");
        (0..FAILURES).for_each(|_| breaker.unanswered(now));
        breaker
    }

    #[test]
    fn opens_after_five_failures_in_a_row_and_not_before() {
        let (breaker, now) = (Breaker::before("peer"), Instant::now());
        (1..FAILURES).for_each(|_| breaker.unanswered(now));
        breaker.answered(now);
        (1..FAILURES).for_each(|_| breaker.unanswered(now));
        assert_eq!(breaker.admit(64, now), 64, "an answer in between starts the count anew");
        breaker.unanswered(now);
        assert_eq!((breaker.admit(64, now), breaker.is_open()), (0, true));
        assert_eq!(breaker.pause(now), PAUSE);
    }

    /// Row 27: While the gateway is away one call a second goes out, and its answer closes the breaker.
    #[test]
    fn lets_one_probe_through_a_second_until_one_is_answered() {
        let now = Instant::now();
        let breaker = open(now);
        let later = now + PAUSE;
        assert_eq!((breaker.admit(64, later), breaker.admit(64, later)), (1, 0));
        breaker.unanswered(later);
        assert_eq!(breaker.admit(64, later), 0);
        assert_eq!(breaker.admit(64, later + PAUSE), 1);
        breaker.give_back(1, later + PAUSE);
        assert_eq!(breaker.admit(64, later + PAUSE), 1);
        breaker.answered(later + PAUSE);
        assert!(!breaker.is_open());
    }

    /// Row 27: After an outage no more than a quarter over the usual rate is asked, for four times as long as it lasted.
    #[test]
    fn lets_a_backlog_out_at_little_more_than_the_usual_rate() {
        let (breaker, start) = (Breaker::before("peer"), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        (0..20_000).step_by(10).for_each(|time| breaker.answered(at(time)));
        (0..FAILURES).for_each(|_| breaker.unanswered(at(20_000)));
        breaker.answered(at(50_000));
        let each_second = (0..120_u64).map(|second| {
            let instants = (0..1_000).step_by(7).map(|time| at(50_000 + second * 1_000 + time));
            instants.map(|now| breaker.admit(64, now)).sum::<i64>()
        });
        for (second, calls) in each_second.enumerate() {
            assert!(
                (100..=140).contains(&calls),
                "{calls} calls in second {second}, 100 are usual"
            );
        }
        assert_eq!(breaker.admit(64, at(171_000)), 64, "the backlog is gone");
    }

    #[test]
    fn a_call_that_was_not_made_is_not_counted() {
        let now = Instant::now();
        let breaker = open(now);
        let back = now + Duration::from_secs(10);
        breaker.answered(back);
        assert_eq!(breaker.admit(64, back), 1);
        assert_eq!(breaker.admit(64, back), 0);
        assert!(breaker.pause(back) > Duration::ZERO);
        breaker.give_back(1, back);
        assert_eq!((breaker.pause(back), breaker.admit(64, back)), (Duration::ZERO, 1));
    }
}
