//! Messages: what was decided is told once, in order, to everybody who listens, and by nobody else.

use std::collections::{BTreeMap, HashMap, HashSet};

use events::Owner;
use uuid::Uuid;

use super::books::{Books, Event, Message, Messages, doubled, name};
use super::{Check, DATABASES, EVERYTHING, Finding, Invariant, Kind, Source};
use crate::shop::Service;

pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "sequences-are-gapless",
        promise: "the events of a subject are numbered 1, 2, 3 … up to the last number given",
        kind: Kind::Always,
        reads: DATABASES,
        check: Check::Books(gapless),
    },
    Invariant {
        name: "an-event-is-written-once",
        promise: "an event is in the outbox or in the archive, once",
        kind: Kind::Always,
        reads: DATABASES,
        check: Check::Books(written_once),
    },
    Invariant {
        name: "outboxes-are-empty",
        promise: "whatever was decided has been published",
        kind: Kind::AtRest,
        reads: DATABASES,
        check: Check::Books(nothing_waits),
    },
    Invariant {
        name: "the-streams-hold-what-was-published",
        promise: "the broker has forgotten nothing that it acknowledged",
        kind: Kind::AtRest,
        reads: EVERYTHING,
        check: Check::Books(nothing_forgotten),
    },
    Invariant {
        name: "the-streams-hold-each-event-once",
        promise: "no event was stored twice",
        kind: Kind::Always,
        reads: &[Source::Streams],
        check: Check::Books(stored_once),
    },
    Invariant {
        name: "nobody-else-publishes",
        promise: "every message of a stream is an event that its owner has written",
        kind: Kind::Always,
        reads: EVERYTHING,
        check: Check::Books(only_owners_publish),
    },
    Invariant {
        name: "events-are-handled-once",
        promise: "an event that a service listens to is in its inbox, or is a dead letter: one of the two",
        kind: Kind::AtRest,
        reads: EVERYTHING,
        check: Check::Books(handled_once),
    },
    Invariant {
        name: "nothing-is-both-handled-and-dead",
        promise: "an event in the inbox is no open dead letter",
        kind: Kind::Always,
        reads: DATABASES,
        check: Check::Books(never_both),
    },
    Invariant {
        name: "nothing-was-handled-that-nobody-told",
        promise: "every event of an inbox was told by its owner",
        kind: Kind::AtRest,
        reads: DATABASES,
        check: Check::Books(no_ghosts),
    },
    Invariant {
        name: "no-dead-letter-is-open",
        promise: "nothing waits for an operator",
        kind: Kind::AtRest,
        reads: DATABASES,
        check: Check::Books(no_open_letters),
    },
    Invariant {
        name: "compensations-run-in-reverse",
        promise: "an undoing step follows from the undoing of the step after it",
        kind: Kind::AtRest,
        reads: DATABASES,
        check: Check::Books(compensations_in_reverse),
    },
];

/// What an undoing step may follow from.
const UNDOING: &[(&str, &[&str])] = &[
    (
        "InventoryReleased",
        &["PaymentDeclined", "PaymentTimedOut", "PaymentVoided", "PaymentRefunded"],
    ),
    ("PaymentVoided", &["ShipmentCancelled"]),
    (
        "PaymentRefunded",
        // The charge itself, when it came too late for anybody to want it.
        &[
            "ShipmentCancelled",
            "ShipmentFailed",
            "ReturnReceived",
            "InventoryReserved",
        ],
    ),
    ("ShipmentCancelled", &["OrderCancellationRequested"]),
    ("ShipmentCancelRejected", &["OrderCancellationRequested"]),
];

fn each(books: &Books, check: impl Fn(Service, &Messages) -> Finding) -> Finding {
    let services = books.messages.iter();
    services.fold(Finding::default(), |sum, (service, own)| sum.and(check(*service, own)))
}

fn gapless(books: &Books) -> Finding {
    each(books, |service, own| {
        let mut told: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for event in &own.events {
            told.entry(&event.subject).or_default().push(event.sequence);
        }
        for subject in own.last.keys().filter(|subject| must_be_whole(books, subject)) {
            told.entry(subject).or_default();
        }
        Finding::of(told, |(subject, mut sequences)| {
            sequences.sort_unstable();
            let last = own.last.get(subject).copied().unwrap_or(0);
            // Housekeeping forgets the oldest: what is left must still be a run up to the last.
            let first = match sequences.first() {
                Some(first) if !must_be_whole(books, subject) => *first,
                _ => 1,
            };
            (!sequences.iter().copied().eq(first..=last))
                .then(|| format!("{service} has given {last} numbers for {subject}, but told {sequences:?}"))
        })
    })
}

/// Whether no event of the subject can have been forgotten yet: those of a young order.
fn must_be_whole(books: &Books, subject: &str) -> bool {
    subject.parse().is_ok_and(|order: Uuid| books.is_recent(order))
}

fn written_once(books: &Books) -> Finding {
    each(books, |service, own| {
        let twice = doubled(own.events.iter().map(|event| event.event_id));
        let breaches = twice
            .iter()
            .map(|id| format!("{service} has written the event {id} more than once"));
        Finding {
            looked_at: own.events.len(),
            breaches: breaches.collect(),
        }
    })
}

fn nothing_waits(books: &Books) -> Finding {
    each(books, |service, own| {
        Finding::of(&own.events, |event| {
            let (name, subject) = (event.name(), &event.subject);
            (!event.published).then(|| format!("{name} of {subject} waits in the outbox of {service}"))
        })
    })
}

fn nothing_forgotten(books: &Books) -> Finding {
    let ids = |messages: &[Message]| {
        messages
            .iter()
            .filter_map(|message| message.event_id)
            .collect::<HashSet<_>>()
    };
    each(books, |service, own| {
        let stream = Owner::ALL.into_iter().find(|owner| owner.name() == service.name());
        let held = stream
            .and_then(|owner| books.streams.get(&owner))
            .map_or(&[][..], Vec::as_slice);
        let held = ids(held);
        let published = own
            .events
            .iter()
            .filter(|event| event.published && books.is_recent(event.event_id));
        Finding::of(published, |event| {
            let Event { event_id, subject, .. } = event;
            (!held.contains(event_id)).then(|| {
                format!(
                    "{} of {subject} ({event_id}) is not in the stream of {service}",
                    event.name()
                )
            })
        })
    })
}

/// Checks every message together with the stream's owner.
fn every_message(books: &Books, check: impl Fn(Owner, &Message) -> Option<String>) -> Finding {
    let all = books.streams.iter();
    let all = all.flat_map(|(owner, messages)| messages.iter().map(|message| (*owner, message)));
    Finding::of(all, |(owner, message)| check(owner, message))
}

fn stored_once(books: &Books) -> Finding {
    let streams = books.streams.iter().map(|(owner, messages)| {
        let twice = doubled(messages.iter().filter_map(|message| message.event_id));
        let breaches = twice
            .iter()
            .map(|id| format!("{} holds the event {id} more than once", owner.stream()));
        Finding {
            looked_at: messages.len(),
            breaches: breaches.collect(),
        }
    });
    streams.fold(Finding::default(), Finding::and)
}

fn only_owners_publish(books: &Books) -> Finding {
    let events = books.messages.iter();
    let written: HashMap<(&str, Uuid), &Event> = events
        .flat_map(|(service, own)| own.events.iter().map(|event| ((service.name(), event.event_id), event)))
        .collect();
    every_message(books, |owner, message| {
        let place = format!("{} of {}", message.sequence, owner.stream());
        let Some(id) = message.event_id else {
            return Some(format!("message {place} has no event id"));
        };
        let Some(event) = written.get(&(owner.name(), id)) else {
            return Some(format!("message {place} ({id}) was not written by {}", owner.name()));
        };
        let same = event.event_type == message.event_type && event.subject == message.subject;
        let at_home = message.nats_subject == format!("shop.{}.{}", owner.name(), event.name());
        (!same || !at_home).then(|| {
            let (told, of) = (&message.event_type, &message.subject);
            format!(
                "message {place} says {told} of {of}, but {} of {} was written",
                event.event_type, event.subject
            )
        })
    })
}

fn handled_once(books: &Books) -> Finding {
    let mut finding = Finding::default();
    for (service, own) in &books.messages {
        let hears = service.hears().subjects;
        let (mut letters, mut places) = (HashMap::new(), HashMap::new());
        for letter in &own.letters {
            letters.insert(letter.event_id, letter);
            places.insert((letter.stream.as_str(), letter.stream_sequence), letter);
        }
        finding = finding.and(every_message(books, |owner, message| {
            let wanted = hears
                .get(owner.stream())
                .is_some_and(|subjects| subjects.contains(&message.nats_subject));
            if !wanted {
                return None;
            }
            let letter = message.event_id.and_then(|id| letters.get(&id));
            let letter = letter.or_else(|| places.get(&(owner.stream(), message.sequence)));
            let id = letter.map(|letter| letter.event_id).or(message.event_id);
            let handled = id.is_some_and(|id| own.inbox.contains(&id));
            let waits = letter.is_some_and(|letter| letter.open);
            let told = || format!("{} of {}", name(&message.event_type), message.subject);
            match (handled, waits) {
                (true, false) | (false, true) => None,
                (true, true) => Some(format!(
                    "{service} has handled {} and keeps it as a dead letter",
                    told()
                )),
                (false, false) => Some(format!("{service} has never handled {}", told())),
            }
        }));
    }
    finding
}

fn never_both(books: &Books) -> Finding {
    each(books, |service, own| {
        Finding::of(own.open_letters(), |letter| {
            own.inbox.contains(&letter.event_id).then(|| {
                let (name, subject) = (name(&letter.event_type), &letter.subject);
                format!("{service} has handled {name} of {subject}, which is an open dead letter")
            })
        })
    })
}

fn no_ghosts(books: &Books) -> Finding {
    let known = books.known_ids();
    each(books, |service, own| {
        let recent = own.inbox.iter().filter(|id| books.is_recent(**id));
        Finding::of(recent, |id| {
            (!known.contains(id)).then(|| format!("{service} has handled the event {id}, which nobody has told"))
        })
    })
}

fn no_open_letters(books: &Books) -> Finding {
    each(books, |service, own| {
        let open = own.open_letters().map(|letter| {
            let (name, subject) = (name(&letter.event_type), &letter.subject);
            format!(
                "{service} keeps {name} of {subject} as {}: {}",
                letter.state, letter.reason
            )
        });
        Finding {
            looked_at: own.letters.len(),
            breaches: open.collect(),
        }
    })
}

fn compensations_in_reverse(books: &Books) -> Finding {
    let events = || books.messages.values().flat_map(|own| &own.events);
    let names: HashMap<Uuid, &str> = events().map(|event| (event.event_id, event.name())).collect();
    let undoing = events().filter_map(|event| {
        let (_, causes) = UNDOING.iter().find(|(name, _)| *name == event.name())?;
        books.is_recent(event.event_id).then_some((event, causes))
    });
    Finding::of(undoing, |(event, causes)| {
        let cause = event.causation_id.and_then(|cause| names.get(&cause).copied());
        let cause = cause.unwrap_or("nothing that is known");
        (!causes.contains(&cause)).then(|| format!("{} of order {} follows from {cause}", event.name(), event.subject))
    })
}
