//! The book in memory: every payment and refund folded from the facts, and where to find them.

use std::collections::HashMap;
use std::iter;

use axum::http::StatusCode;
use uuid::Uuid;

use crate::facts::{Attempt, Claim, Fact, Refund, Tagged, digest};
use crate::refusal::Refusal;
use crate::views::{self, Reply};

/// Where a payment or refund stands in its list.
type Position = u32;

/// Everything the gateway knows. Only the clerk holds one.
#[derive(Default)]
pub(crate) struct Book {
    intents: Vec<Intent>,
    refunds: Vec<Refund>,
    intent_of: HashMap<Uuid, Position>,
    refund_of: HashMap<Uuid, Position>,
    /// By digest of the idempotency key: what was answered under it.
    answered: HashMap<Uuid, Answered>,
    /// By digest of the order id: the latest payment for it.
    latest: HashMap<Uuid, Position>,
    /// By digest of the idempotency key: requests that will be answered later. Forgotten by a restart.
    pub(crate) in_flight: HashMap<Uuid, Uuid>,
    /// By digest of the idempotency key: how often a flaky payment or refund failed. Forgotten by a restart.
    pub(crate) failures: HashMap<Uuid, u8>,
    /// Lines of facts already applied but not yet in the journal.
    pub(crate) unsaved: Vec<u8>,
}

/// A payment: what was tried, and what has happened to it since.
pub(crate) struct Intent {
    pub(crate) attempt: Attempt,
    pub(crate) refunded: i64,
    /// Unix seconds.
    pub(crate) canceled_at: Option<u64>,
    /// The payment before it for the same order.
    previous: Option<Position>,
}

impl Intent {
    /// The money that was taken and can be given back.
    pub(crate) fn charged(&self) -> i64 {
        if self.attempt.payment_method.decline_code().is_none() {
            self.attempt.amount
        } else {
            0
        }
    }
}

/// What an idempotency key was used for.
struct Answered {
    request: Uuid,
    outcome: Outcome,
}

/// The fact an answer told of, from which the same answer can be given again.
#[derive(Clone, Copy)]
enum Outcome {
    Attempted(Position),
    Canceled(Position),
    Refunded(Position),
}

impl Book {
    /// Adds a fact; refuses one that contradicts the book.
    pub(crate) fn apply(&mut self, fact: Fact) -> Result<(), Refusal> {
        self.fold(fact).map(drop)
    }

    /// Adds a fact, leaves its line for the journal, and answers.
    pub(crate) fn record(&mut self, fact: Fact) -> Result<Reply, Refusal> {
        let line = serde_json::to_vec(&fact)?;
        let outcome = self.fold(fact)?;
        self.unsaved.extend_from_slice(&line);
        self.unsaved.push(b'\n');
        self.reply(outcome)
    }

    fn fold(&mut self, fact: Fact) -> Result<Outcome, Refusal> {
        let (claim, outcome) = match fact {
            Fact::Attempted(attempt) => {
                let position = position(&self.intents)?;
                let claim = attempt.claim.clone();
                let order_id = attempt.metadata.order_id.as_deref();
                let previous = order_id.and_then(|order_id| self.latest.insert(digest(order_id.as_bytes()), position));
                self.intent_of.insert(attempt.id, position);
                self.intents.push(Intent {
                    attempt,
                    refunded: 0,
                    canceled_at: None,
                    previous,
                });
                (claim, Outcome::Attempted(position))
            }
            Fact::Canceled(canceled) => {
                let position = self.position(canceled.payment_intent)?;
                self.intents[position as usize].canceled_at = Some(canceled.at);
                (canceled.claim, Outcome::Canceled(position))
            }
            Fact::Refunded(refund) => {
                let intent = self.position(refund.payment_intent)?;
                let position = position(&self.refunds)?;
                let claim = refund.claim.clone();
                self.intents[intent as usize].refunded += refund.amount;
                self.refund_of.insert(refund.id, position);
                self.refunds.push(refund);
                (claim, Outcome::Refunded(position))
            }
        };
        if let Some(Claim { key, request }) = claim {
            self.answered
                .insert(digest(key.as_bytes()), Answered { request, outcome });
        }
        Ok(outcome)
    }

    /// The answer already given under this key, if any; refuses the key when another request holds it.
    pub(crate) fn replay(&self, claim: Option<&Claim>) -> Result<Option<Reply>, Refusal> {
        let Some(Claim { key, request }) = claim else {
            return Ok(None);
        };
        let slot = digest(key.as_bytes());
        let answered = self.answered.get(&slot);
        let first = answered
            .map(|answered| answered.request)
            .or_else(|| self.in_flight.get(&slot).copied());
        match (first, answered) {
            (None, _) => Ok(None),
            (Some(first), _) if first != *request => Err(other_request(key)),
            (Some(_), Some(answered)) => self.reply(answered.outcome).map(|reply| Some(reply.replayed())),
            (Some(_), None) => Err(still_running(key)),
        }
    }

    /// The answer to the request that caused `outcome`, the same whenever it is given.
    fn reply(&self, outcome: Outcome) -> Result<Reply, Refusal> {
        match outcome {
            Outcome::Attempted(at) => views::attempted(&self.intents[at as usize].attempt),
            Outcome::Canceled(at) => views::intent(&self.intents[at as usize]),
            Outcome::Refunded(at) => self.refund_reply(&self.refunds[at as usize]),
        }
    }

    fn refund_reply(&self, refund: &Refund) -> Result<Reply, Refusal> {
        let intent = self.position(refund.payment_intent)?;
        views::refund(refund, self.intents[intent as usize].attempt.currency)
    }

    fn position(&self, intent: Uuid) -> Result<Position, Refusal> {
        let position = self.intent_of.get(&intent).copied();
        position.ok_or_else(|| Refusal::missing("payment_intent", &Tagged("pi", intent).to_string()))
    }

    /// The payment of that id.
    pub(crate) fn intent(&self, id: &str) -> Result<&Intent, Refusal> {
        let position = Tagged::parse("pi", id).and_then(|id| self.intent_of.get(&id));
        position
            .map(|&at| &self.intents[at as usize])
            .ok_or_else(|| Refusal::missing("payment_intent", id))
    }

    /// The refund of that id.
    pub(crate) fn refund(&self, id: &str) -> Result<Reply, Refusal> {
        let position = Tagged::parse("re", id).and_then(|id| self.refund_of.get(&id));
        let refund = position.map(|&at| &self.refunds[at as usize]);
        self.refund_reply(refund.ok_or_else(|| Refusal::missing("refund", id))?)
    }

    /// Where the charge of that id stands.
    pub(crate) fn charge_position(&self, id: &str) -> Option<Position> {
        Tagged::parse("ch", id).and_then(|id| self.intent_of.get(&id).copied())
    }

    /// Payments from the newest back, of one order or of all; with `before`, only those older than that position.
    pub(crate) fn newest_first(
        &self,
        order_id: Option<&str>,
        before: Option<Position>,
    ) -> impl Iterator<Item = (Position, &Intent)> {
        let newest = match order_id {
            Some(order_id) => self.latest.get(&digest(order_id.as_bytes())).copied(),
            None => before
                .or(Position::try_from(self.intents.len()).ok())
                .and_then(|end| end.checked_sub(1)),
        };
        let of_one_order = order_id.is_some();
        iter::successors(newest, move |&at| {
            if of_one_order {
                self.intents[at as usize].previous
            } else {
                at.checked_sub(1)
            }
        })
        .skip_while(move |&at| before.is_some_and(|before| at >= before))
        .map(|at| (at, &self.intents[at as usize]))
    }
}

fn other_request(key: &str) -> Refusal {
    let message = format!(
        "Keys for idempotent requests can only be used with the same parameters they were first used with. \
         Try using a key other than '{key}' if you meant to execute a different request."
    );
    Refusal::idempotency(StatusCode::BAD_REQUEST, message)
}

fn still_running(key: &str) -> Refusal {
    let message = format!(
        "There is currently another in-progress request using this Idempotent Key: {key}. Please try again later."
    );
    Refusal::idempotency(StatusCode::CONFLICT, message).code("idempotency_key_in_use")
}

/// The position of the next entry.
fn position<T>(entries: &[T]) -> Result<Position, Refusal> {
    Position::try_from(entries.len())
        .map_err(|_| Refusal::failure(StatusCode::INSUFFICIENT_STORAGE, "The book is full."))
}
