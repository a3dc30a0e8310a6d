//! The audit: what must be true across all services, read off their databases, the streams and the gateway's book.
//!
//! An [`Invariant`] is a name, a promise and a check. Those that hold [`Always`](Kind::Always) can be checked while
//! everything moves and breaks: each database is read in one snapshot, and effects before their causes, so that what
//! was read cannot be older than what it follows from. The others hold at rest; [`Audit::drain`] waits for that.
//! `e2e-tests/tests/audit.rs` plants a fault for every one of them.
//!
//! ```no_run
//! # async fn example(shop: &xtask::shop::Shop) -> anyhow::Result<()> {
//! use xtask::audit::{Addresses, Audit, Scope};
//!
//! let audit = Audit::of(Addresses::of(shop));
//! audit.drain(std::time::Duration::from_secs(60), |waiting| println!("{waiting}")).await?;
//! let report = audit.run(Scope::Everything).await?;
//! assert!(report.is_sound(), "{report}");
//! # Ok(())
//! # }
//! ```

mod across;
mod books;
mod client;
mod drain;
mod load;
mod messages;
mod money;
mod orders;
mod rebuild;
pub mod reconcile;
mod report;
mod returns;
mod sessions;
mod shipping;
mod stock;
mod streams;
mod traces;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anyhow::Result;
use uuid::Uuid;

use crate::shop::{Service, Shop};
use books::Books;
pub use rebuild::{Discrepancy, Rebuilt, rebuild_payments};
pub use report::{Figures, Line, Report, Verdict};

/// How long a transaction may do nothing.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// When an invariant holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// At every moment, also while things break.
    Always,
    /// Once nothing is on its way any more.
    AtRest,
}

/// Which invariants are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those that hold at every moment.
    Always,
    /// All of them: the shop is at rest.
    Everything,
}

/// Where an invariant looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The database of a service.
    Database(Service),
    /// The streams of the broker.
    Streams,
    /// The gateway's own book.
    Gateway,
    /// What a client has sent and seen.
    Client,
}

/// The streams, and the database of every service.
const EVERYTHING: &[Source] = &{
    let mut all = [Source::Streams; Service::ALL.len() + 1];
    let mut at = 0;
    while at < Service::ALL.len() {
        all[at + 1] = Source::Database(Service::ALL[at]);
        at += 1;
    }
    all
};
/// The database of every service.
const DATABASES: &[Source] = EVERYTHING.split_at(1).1;

/// Something that must be true.
#[derive(Debug)]
pub struct Invariant {
    /// What it is called.
    pub name: &'static str,
    /// What it promises.
    pub promise: &'static str,
    /// When it holds.
    pub kind: Kind,
    /// Where it looks.
    pub reads: &'static [Source],
    check: Check,
}

#[derive(Debug)]
enum Check {
    /// Within the snapshot of one database: what is looked at, counted, and a sentence for each breach.
    Sql {
        looked_at: &'static str,
        breaches: &'static str,
    },
    /// Over what was read of all of them.
    Books(fn(&Books) -> Finding),
}

/// What a check has found.
#[derive(Debug, Default)]
struct Finding {
    looked_at: usize,
    breaches: Vec<String>,
}

impl Finding {
    /// Looks at each of these; the check says what is wrong with one, if anything.
    fn of<T>(items: impl IntoIterator<Item = T>, check: impl Fn(T) -> Option<String>) -> Self {
        let mut finding = Self::default();
        for item in items {
            finding.looked_at += 1;
            finding.breaches.extend(check(item));
        }
        finding
    }

    fn and(mut self, other: Self) -> Self {
        self.looked_at += other.looked_at;
        self.breaches.extend(other.breaches);
        self
    }
}

/// Every invariant, by area.
pub fn invariants() -> impl Iterator<Item = &'static Invariant> {
    let areas: [&[Invariant]; 10] = [
        stock::INVARIANTS,
        money::INVARIANTS,
        orders::INVARIANTS,
        shipping::INVARIANTS,
        across::INVARIANTS,
        returns::INVARIANTS,
        messages::INVARIANTS,
        traces::INVARIANTS,
        sessions::INVARIANTS,
        client::INVARIANTS,
    ];
    areas.into_iter().flatten()
}

/// Where everything is that an audit reads.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The database of each service.
    pub databases: BTreeMap<Service, String>,
    /// The broker.
    pub nats_url: String,
    /// The sandbox gateway.
    pub gateway_url: String,
}

impl Addresses {
    /// Of a shop that this process runs.
    pub fn of(shop: &Shop) -> Self {
        Self {
            databases: Service::ALL.map(|service| (service, shop.database_url(service))).into(),
            nats_url: shop.nats_url(),
            gateway_url: shop.gateway_url(),
        }
    }
}

/// What a client has sent and seen, written down before and after each request.
#[derive(Debug, Clone, Default)]
pub struct ClientLog {
    /// The idempotency keys under which it asked, answered or not.
    pub attempted: BTreeSet<String>,
    /// The orders of every 201 that it saw.
    pub accepted: BTreeSet<Uuid>,
}

/// An auditor, who reads and never writes.
#[derive(Debug, Clone)]
pub struct Audit {
    addresses: Addresses,
    client: Option<ClientLog>,
    allowed: BTreeSet<String>,
    idle_limit: Duration,
}

impl Audit {
    /// An audit of what is there.
    pub fn of(addresses: Addresses) -> Self {
        Self {
            addresses,
            client: None,
            allowed: BTreeSet::new(),
            idle_limit: IDLE_LIMIT,
        }
    }

    /// Compares with what the only client has sent and seen.
    #[must_use]
    pub fn with_client(self, log: ClientLog) -> Self {
        Self {
            client: Some(log),
            ..self
        }
    }

    /// Shows breaches of these invariants, but takes no offence.
    #[must_use]
    pub fn allowing<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.allowed.extend(names.into_iter().map(Into::into));
        self
    }

    /// Takes offence at transactions that did nothing for this long; ten seconds unless said otherwise.
    #[must_use]
    pub fn with_idle_limit(self, idle_limit: Duration) -> Self {
        Self { idle_limit, ..self }
    }

    /// Checks every invariant of the scope. What cannot be read leaves its invariants unread; the rest is checked.
    pub async fn run(&self, scope: Scope) -> Result<Report> {
        let wanted = |invariant: &&Invariant| {
            let asked = self.client.is_some() || !invariant.reads.contains(&Source::Client);
            asked && (scope == Scope::Everything || invariant.kind == Kind::Always)
        };
        let wanted: Vec<&'static Invariant> = invariants().filter(wanted).collect();
        let (books, mut found) = self.load(&wanted).await?;
        let lines = wanted.into_iter().map(|invariant| {
            let unread = invariant.reads.iter().find_map(|source| books.unread.get(source));
            let finding = match (unread, &invariant.check) {
                (Some(reason), _) => Err(reason.clone()),
                (None, Check::Books(check)) => Ok(check(&books)),
                (None, Check::Sql { .. }) => Ok(found.remove(invariant.name).unwrap_or_default()),
            };
            Line::of(invariant, finding, self.allowed.contains(invariant.name))
        });
        Ok(Report {
            scope,
            lines: lines.collect(),
            figures: Figures::of(&books),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(service) => write!(f, "the database of {service}"),
            Self::Streams => f.write_str("the streams"),
            Self::Gateway => f.write_str("the gateway's book"),
            Self::Client => f.write_str("the client's log"),
        }
    }
}
