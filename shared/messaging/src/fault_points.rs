//! Fault points: named places where a process can be made to die, wait or fail, for the crash matrix.
//!
//! They exist only with the feature `fault-points`, which nothing but the tests turns on; without it
//! [`reach`] is an empty function. A point is armed by a file of its name in the folder that the
//! variable `FAULT_POINTS` names, written while the process runs or before it starts:
//!
//! | the file says | what happens when the point is reached |
//! |---|---|
//! | `abort` | the process dies at once, with nothing flushed or closed |
//! | `delay 500` | 500 milliseconds pass |
//! | `error` | the step fails as if a connection had been cut |
//!
//! `abort 3` or `error 3` lets the point be passed twice first. A file is taken away before its fault
//! happens, so each happens once, a process that is started again is healthy, and whoever armed a
//! point sees that it was reached. Words after `always`, as in `always abort`, leave the file where it is.
//!
//! One more, [`POISONED`], is about a single event and stays: its file holds the subject of the event that
//! kills every process that reacts to it.

/// Every fault point, with the place that it marks.
pub const ALL: [(&str, &str); 17] = [
    ("unit.claimed", "the inbox rows are claimed, nothing is decided"),
    (
        "unit.saved",
        "everything is written and nothing committed: the last moment before the commit",
    ),
    ("unit.committed", "committed, and nobody knows yet"),
    (
        "decisions.unanswered",
        "a request's decision is committed, its answer is not given",
    ),
    ("consumer.heard", "a batch has arrived and nothing is done about it"),
    (
        "consumer.unacknowledged",
        "a batch is committed, none of it acknowledged",
    ),
    (
        "consumer.half-acknowledged",
        "a batch is committed, its first event acknowledged",
    ),
    ("relay.read", "a batch is read from the outbox and not sent"),
    ("relay.half-sent", "a part of a batch is with the broker, uncommitted"),
    (
        "relay.published",
        "the broker has acknowledged a batch that is still in the outbox",
    ),
    ("relay.forgotten", "a batch has left the outbox"),
    ("errand.taken", "an errand is leased and not begun"),
    (
        "gateway.unasked",
        "a charge or refund is about to be asked of the gateway",
    ),
    (
        "gateway.answered",
        "the gateway has answered and nothing of it is saved",
    ),
    ("mail.unsent", "a mail is about to be sent"),
    ("mail.sent", "a mail is sent and nothing of it is saved"),
    (
        "carrier.handed-over",
        "the carrier has a parcel and nothing of it is saved",
    ),
];

/// Armed with the subject of an event: reacting to any event of that subject aborts the process, each time.
pub const POISONED: &str = "reaction.poisoned";

/// Aborts if the event that is about to be reacted to is the poisoned one.
#[cfg(feature = "fault-points")]
pub(crate) fn afflict(subject: &str) {
    armed::afflict(subject);
}

/// Does nothing: fault points are not compiled in.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub(crate) fn afflict(_subject: &str) {}

/// Does what the point is armed for; nothing, if it is not.
///
/// # Errors
/// The injected one, which looks like a cut connection.
#[cfg(feature = "fault-points")]
pub async fn reach(point: &'static str) -> std::io::Result<()> {
    armed::reach(point).await
}

/// Does nothing: fault points are not compiled in.
///
/// # Errors
/// None.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub async fn reach(_point: &'static str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(feature = "fault-points")]
mod armed {
    use std::collections::HashMap;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::Duration;

    static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os("FAULT_POINTS").map(PathBuf::from));
    static PASSED: LazyLock<Mutex<HashMap<&'static str, u32>>> = LazyLock::new(Mutex::default);

    pub(super) async fn reach(point: &'static str) -> io::Result<()> {
        debug_assert!(
            super::ALL.iter().any(|(known, _)| *known == point),
            "{point} is in no list"
        );
        let Some(folder) = FOLDER.as_deref() else {
            return Ok(());
        };
        match due(point, &folder.join(point)) {
            Some(Fault::Abort) => std::process::abort(),
            Some(Fault::Error) => Err(io::Error::new(io::ErrorKind::ConnectionReset, point)),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn afflict(subject: &str) {
        let poisoned = FOLDER
            .as_deref()
            .and_then(|folder| std::fs::read_to_string(folder.join(super::POISONED)).ok());
        if poisoned.is_some_and(|poisoned| poisoned.trim() == subject) {
            std::process::abort();
        }
    }

    enum Fault {
        Abort,
        Error,
        Delay(Duration),
    }

    /// What the file asks for, if it is its turn; the file is gone then.
    fn due(point: &'static str, file: &Path) -> Option<Fault> {
        let text = std::fs::read_to_string(file).ok()?;
        let mut words = text.split_whitespace().peekable();
        let always = words.next_if_eq(&"always").is_some();
        let (fault, number) = (words.next()?, words.next().and_then(|word| word.parse().ok()));
        let (fault, turn) = match fault {
            "abort" => (Fault::Abort, number.unwrap_or(1)),
            "error" => (Fault::Error, number.unwrap_or(1)),
            "delay" => (Fault::Delay(Duration::from_millis(number?.into())), 1),
            _ => return None,
        };
        if passed(point) < turn {
            return None;
        }
        // Of several that reach the point at once, one takes the file and the fault.
        (always || std::fs::remove_file(file).is_ok()).then(|| {
            PASSED.lock().unwrap_or_else(PoisonError::into_inner).remove(point);
            fault
        })
    }

    /// How often the point was reached while it was armed, this time included.
    fn passed(point: &'static str) -> u32 {
        let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = passed.entry(point).or_insert(0);
        *passed += 1;
        *passed
    }
}
