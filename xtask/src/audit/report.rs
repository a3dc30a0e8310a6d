//! What an audit has found.

use std::collections::BTreeMap;
use std::fmt;

use super::books::Books;
use super::{Finding, Invariant, Scope};

/// How many breaches of one invariant a report shows.
const SHOWN: usize = 5;

/// What an audit has found, one line an invariant.
#[derive(Debug)]
pub struct Report {
    /// What was checked.
    pub scope: Scope,
    /// The lines.
    pub lines: Vec<Line>,
    /// What there was.
    pub figures: Figures,
}

/// What was found about one invariant.
#[derive(Debug)]
pub struct Line {
    /// The invariant.
    pub invariant: &'static Invariant,
    /// Whether it holds.
    pub verdict: Verdict,
    /// How many things were looked at.
    pub looked_at: usize,
    /// A sentence each.
    pub breaches: Vec<String>,
}

/// Whether an invariant holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Kept,
    /// It does not.
    Broken,
    /// It does not, which is allowed this time.
    Allowed,
    /// Something that it reads cannot be read.
    Unread,
}

/// How much there was to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Orders by state.
    pub orders: BTreeMap<String, usize>,
    /// Events in outboxes and archives.
    pub events: usize,
    /// Messages in the streams.
    pub messages: usize,
    /// Effects that the inboxes know of.
    pub handled: usize,
    /// Charges in the gateway's book.
    pub charges: usize,
    /// Mails that were sent.
    pub mails: usize,
}

impl Line {
    pub(super) fn of(invariant: &'static Invariant, finding: Result<Finding, String>, allowed: bool) -> Self {
        let line = |verdict, finding: Finding| Self {
            invariant,
            verdict,
            looked_at: finding.looked_at,
            breaches: finding.breaches,
        };
        match finding {
            Ok(finding) if finding.breaches.is_empty() => line(Verdict::Kept, finding),
            Ok(finding) if allowed => line(Verdict::Allowed, finding),
            Ok(finding) => line(Verdict::Broken, finding),
            Err(reason) => line(
                Verdict::Unread,
                Finding {
                    looked_at: 0,
                    breaches: vec![reason],
                },
            ),
        }
    }

    /// The first breaches, and how many more there are.
    pub fn shown(&self) -> Vec<String> {
        let mut shown: Vec<String> = self.breaches.iter().take(SHOWN).cloned().collect();
        if self.breaches.len() > SHOWN {
            shown.push(format!("and {} more", self.breaches.len() - SHOWN));
        }
        shown
    }
}

impl Verdict {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "ok",
            Self::Broken => "BREACH",
            Self::Allowed => "allowed",
            Self::Unread => "UNREAD",
        }
    }
}

impl Report {
    /// Whether every invariant holds; while things break, what cannot be read is no breach.
    pub fn is_sound(&self) -> bool {
        let forgiven = |line: &Line| match line.verdict {
            Verdict::Kept | Verdict::Allowed => true,
            Verdict::Broken => false,
            Verdict::Unread => self.scope == Scope::Always,
        };
        self.lines.iter().all(forgiven)
    }

    /// How many invariants came out like this.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.lines.iter().filter(|line| line.verdict == verdict).count()
    }

    /// Every breach with the name of its invariant.
    pub fn breaches(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let broken = self.lines.iter().filter(|line| line.verdict != Verdict::Kept);
        broken.flat_map(|line| {
            let breaches = line.breaches.iter();
            breaches.map(|breach| (line.invariant.name, breach.as_str()))
        })
    }
}

impl Figures {
    pub(super) fn of(books: &Books) -> Self {
        let mut orders = BTreeMap::new();
        for order in books.orders.values() {
            *orders.entry(order.state.clone()).or_default() += 1;
        }
        let services = || books.messages.values();
        Self {
            orders,
            events: services().map(|own| own.events.len()).sum(),
            messages: books.streams.values().map(Vec::len).sum(),
            handled: services().map(|own| own.inbox.len()).sum(),
            charges: books.charges.len(),
            mails: books.mails.iter().filter(|mail| mail.state == "SENT").count(),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            events,
            messages,
            handled,
            charges,
            mails,
            orders,
        } = self;
        let states: Vec<String> = orders
            .iter()
            .map(|(state, count)| format!("{count} {}", state.to_lowercase()))
            .collect();
        let states = match states.is_empty() {
            true => String::new(),
            false => format!(" ({})", states.join(", ")),
        };
        write!(
            f,
            "{} orders{states}, {events} events told, {messages} in the streams, {handled} handled, \
             {charges} charges, {mails} mails",
            orders.values().sum::<usize>(),
        )
    }
}

/// The lines that do not hold, and the figures.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines.iter().filter(|line| line.verdict != Verdict::Kept) {
            writeln!(
                f,
                "{}: {}: {}",
                line.verdict.as_str(),
                line.invariant.name,
                line.invariant.promise
            )?;
            for breach in line.shown() {
                writeln!(f, "  {breach}")?;
            }
        }
        write!(f, "{}", self.figures)
    }
}
