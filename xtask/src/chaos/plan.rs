//! What will go wrong and when: a pure function of the seed.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use testbed::When;

use crate::shop::Service;

/// Between two faults, in milliseconds.
const EVERY_MS: std::ops::RangeInclusive<u64> = 1_000..=3_000;

/// One thing that goes wrong, with whom it befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A service is killed with -9 and started again later.
    Killed(Service),
    /// A service stands still (SIGSTOP) and goes on later.
    Paused(Service),
    /// A service is asked to end (SIGTERM) and started again later.
    Restarted(Service),
    /// The broker is killed with -9 and started again later.
    BrokerKilled,
    /// All six databases crash at once and recover later.
    DatabasesKilled,
    /// The payment gateway is killed with -9 and started again later.
    GatewayKilled,
    /// The payment gateway refuses refunds for a while.
    RefundsRefused,
    /// Something happens to a service's way to its database.
    DatabaseLink(Service, Harm),
    /// Something happens to a service's way to the broker.
    BrokerLink(Service, Harm),
}

/// What happens to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// Every connection is reset once.
    Cut,
    /// Connections are reset, and none is made, for a while.
    Refused,
    /// Nothing is carried for a while.
    Stalled,
    /// The connections of now carry nothing for a while, and new ones work.
    Stranded,
    /// Everything takes this long each way for a while.
    Slow(Duration),
    /// The next commit is cut off before or after it took effect: its outcome is unknown.
    CutAtCommit(When),
}

/// A fault with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// When it begins, from the start of the run.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
}

/// Strikes without end; the same seed gives the same ones.
#[derive(Debug)]
pub struct Plan {
    rng: Rng,
    at: Duration,
    /// The kinds still to be dealt before the next shuffle.
    deck: Vec<usize>,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            at: Duration::ZERO,
            deck: Vec::new(),
        }
    }

    /// Every kind comes once in each round, in an order of its own.
    fn deal(&mut self) -> usize {
        if self.deck.is_empty() {
            self.deck = (0..KINDS.len()).collect();
            self.rng.shuffle(&mut self.deck);
        }
        self.deck.pop().unwrap_or_default()
    }
}

impl Iterator for Plan {
    type Item = Strike;

    fn next(&mut self) -> Option<Strike> {
        self.at += Duration::from_millis(self.rng.u64(EVERY_MS));
        let (_, longest, fault) = KINDS[self.deal()];
        let service = Service::ALL[self.rng.usize(..Service::ALL.len())];
        Some(Strike {
            at: self.at,
            lasts: Duration::from_millis(self.rng.u64(100..=longest)),
            fault: fault(service, &mut self.rng),
        })
    }
}

/// Name, longest duration in milliseconds, and how one is made.
type Kind = (&'static str, u64, fn(Service, &mut Rng) -> Fault);

/// Every kind of fault.
const KINDS: [Kind; 17] = [
    ("kill -9 of a service", 3_000, |service, _| Fault::Killed(service)),
    ("a service paused", 6_000, |service, _| Fault::Paused(service)),
    ("restart of a service", 1_000, |service, _| Fault::Restarted(service)),
    ("kill -9 of the broker", 3_000, |_, _| Fault::BrokerKilled),
    ("crash of all databases", 3_000, |_, _| Fault::DatabasesKilled),
    ("kill -9 of the gateway", 4_000, |_, _| Fault::GatewayKilled),
    ("refunds refused", 8_000, |_, _| Fault::RefundsRefused),
    ("database link cut", 100, |of, _| Fault::DatabaseLink(of, Harm::Cut)),
    ("database link refused", 4_000, |of, _| {
        Fault::DatabaseLink(of, Harm::Refused)
    }),
    ("database link stalled", 8_000, |of, _| {
        Fault::DatabaseLink(of, Harm::Stalled)
    }),
    ("database link stranded", 15_000, |of, _| {
        Fault::DatabaseLink(of, Harm::Stranded)
    }),
    ("database link slow", 5_000, |of, rng| {
        Fault::DatabaseLink(of, slow(rng, 40))
    }),
    ("database link cut at a commit", 3_000, |of, rng| {
        let when = if rng.bool() { When::Before } else { When::After };
        Fault::DatabaseLink(of, Harm::CutAtCommit(when))
    }),
    ("broker link cut", 100, |of, _| Fault::BrokerLink(of, Harm::Cut)),
    ("broker link stalled", 8_000, |of, _| {
        Fault::BrokerLink(of, Harm::Stalled)
    }),
    ("broker link stranded", 15_000, |of, _| {
        Fault::BrokerLink(of, Harm::Stranded)
    }),
    ("broker link slow", 5_000, |of, rng| {
        Fault::BrokerLink(of, slow(rng, 200))
    }),
];

fn slow(rng: &mut Rng, most_ms: u64) -> Harm {
    Harm::Slow(Duration::from_millis(rng.u64(5..=most_ms)))
}

impl Fault {
    /// The names of all kinds.
    pub fn kinds() -> impl Iterator<Item = &'static str> {
        KINDS.iter().map(|(name, ..)| *name)
    }

    /// The name of its kind.
    pub fn kind(self) -> &'static str {
        let number = match self {
            Self::Killed(_) => 0,
            Self::Paused(_) => 1,
            Self::Restarted(_) => 2,
            Self::BrokerKilled => 3,
            Self::DatabasesKilled => 4,
            Self::GatewayKilled => 5,
            Self::RefundsRefused => 6,
            Self::DatabaseLink(_, Harm::Cut) => 7,
            Self::DatabaseLink(_, Harm::Refused) => 8,
            Self::DatabaseLink(_, Harm::Stalled) => 9,
            Self::DatabaseLink(_, Harm::Stranded) => 10,
            Self::DatabaseLink(_, Harm::Slow(_)) => 11,
            Self::DatabaseLink(_, Harm::CutAtCommit(_)) => 12,
            Self::BrokerLink(_, Harm::Cut | Harm::Refused | Harm::CutAtCommit(_)) => 13,
            Self::BrokerLink(_, Harm::Stalled) => 14,
            Self::BrokerLink(_, Harm::Stranded) => 15,
            Self::BrokerLink(_, Harm::Slow(_)) => 16,
        };
        KINDS[number].0
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed(service) => write!(f, "{service} is killed"),
            Self::Paused(service) => write!(f, "{service} stands still"),
            Self::Restarted(service) => write!(f, "{service} is restarted"),
            Self::BrokerKilled => f.write_str("the broker is killed"),
            Self::DatabasesKilled => f.write_str("all databases crash"),
            Self::GatewayKilled => f.write_str("the gateway is killed"),
            Self::RefundsRefused => f.write_str("the gateway refuses refunds"),
            Self::DatabaseLink(service, harm) => write!(f, "{service}'s link to its database {harm}"),
            Self::BrokerLink(service, harm) => write!(f, "{service}'s link to the broker {harm}"),
        }
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("is cut"),
            Self::Refused => f.write_str("is cut and refused"),
            Self::Stalled => f.write_str("stalls"),
            Self::Stranded => f.write_str("forgets its connections"),
            Self::Slow(latency) => write!(f, "takes {latency:?} each way"),
            Self::CutAtCommit(When::Before) => f.write_str("is cut before the next commit"),
            Self::CutAtCommit(When::After) => f.write_str("is cut after the next commit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_does_the_same_things_and_another_one_does_not() {
        let strikes = |seed| Plan::of(seed).take(200).collect::<Vec<_>>();
        assert_eq!(strikes(1), strikes(1));
        assert_ne!(strikes(1), strikes(2));
    }

    #[test]
    fn every_kind_of_fault_happens_in_every_minute_and_is_counted_under_its_name() {
        for seed in 0..50 {
            let minute = Plan::of(seed).take_while(|strike| strike.at < Duration::from_secs(60));
            let happened: BTreeSet<_> = minute.map(|strike| strike.fault.kind()).collect();
            assert_eq!(happened, Fault::kinds().collect(), "seed {seed}");
        }
    }

    #[test]
    fn faults_follow_each_other_within_one_to_three_seconds() {
        let mut before = Duration::ZERO;
        for strike in Plan::of(7).take(500) {
            let pause = (strike.at - before).as_millis() as u64;
            assert!(EVERY_MS.contains(&pause), "{pause}");
            before = strike.at;
        }
    }

    #[test]
    fn every_service_is_hit() {
        let hit = |strike: Strike| match strike.fault {
            Fault::Killed(service) => Some(service),
            _ => None,
        };
        let killed: BTreeSet<_> = Plan::of(3).take(1_000).filter_map(hit).collect();
        assert_eq!(killed, Service::ALL.into());
    }
}
