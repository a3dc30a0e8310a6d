//! Sessions of the databases: nobody keeps a transaction open and does nothing.

use super::books::Books;
use super::{Check, DATABASES, Finding, Invariant, Kind};

pub(super) const INVARIANTS: &[Invariant] = &[Invariant {
    name: "no-transaction-idles",
    promise: "no session has had a transaction open for long without doing anything in it",
    kind: Kind::Always,
    reads: DATABASES,
    check: Check::Books(none_idles),
}];

fn none_idles(books: &Books) -> Finding {
    let limit = books.idle_limit.as_secs_f64();
    let sessions = books.messages.iter();
    let sessions = sessions.flat_map(|(service, own)| own.sessions.iter().map(move |session| (service, session)));
    Finding::of(sessions, |(service, session)| {
        let name = if session.application.is_empty() {
            "a nameless session"
        } else {
            &session.application
        };
        (session.seconds > limit).then(|| {
            let (pid, seconds) = (session.pid, session.seconds);
            format!("{name} (pid {pid}) has idled for {seconds:.1} s in a transaction on the database of {service}")
        })
    })
}
