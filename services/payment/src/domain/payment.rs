//! One payment: the facts that happened to it, and where it stands, which is their fold.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use events::{
    Currency, PaymentDeclined, PaymentRefunded, PaymentSucceeded, PaymentTimedOut, PaymentVoided, RefundCause,
    derive_id,
};
use uuid::Uuid;

use super::fact::Fact;
use super::returns::{RefundState, ReturnRefund};

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// To be charged, or being charged.
    Pending,
    /// The money was taken.
    Succeeded,
    /// The gateway said no.
    Declined,
    /// Given up without an answer.
    TimedOut,
    /// The money is to go back, or going back.
    Refunding,
    /// The money went back.
    Refunded,
    /// Called off before money was taken.
    Voided,
}

/// Whether a payment that took nothing, as far as is known, is to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undo {
    /// Nobody asked.
    None,
    /// Asked; the answer is owed.
    Wanted,
    /// Asked and answered.
    Answered,
}

/// When an errand takes a payment up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Whenever it would have.
    AsItWas,
    /// Not any more.
    Never,
    /// After this time.
    In(Duration),
}

/// What the errands must remember; no part of the fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// How often the gateway was asked about the charge, counted before each call.
    pub attempts: i32,
    /// How often the gateway was asked for the refund, counted before each call.
    pub refund_attempts: i32,
    /// A call that could charge began and was never answered.
    pub doubt: bool,
    /// Why the last attempt did not settle it.
    pub trouble: Option<String>,
    /// When it is taken up next.
    pub due: Due,
    /// Whether this batch changed any of it.
    pub changed: bool,
}

/// A payment; there is one an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The order.
    pub order_id: Uuid,
    /// The payment, also the idempotency key of its charge.
    pub payment_id: Uuid,
    /// Where it stands.
    pub state: State,
    /// What is to be paid, in minor units; 0 when it was undone before it was asked for.
    pub amount: i64,
    /// What was taken.
    pub captured: i64,
    /// What went back.
    pub refunded: i64,
    /// Currency of the amounts; empty when it was undone before it was asked for.
    pub currency: Currency,
    /// The gateway's token.
    pub payment_method: String,
    /// When the charge is given up at the latest.
    pub expires_at: Option<DateTime<Utc>>,
    /// What the gateway calls the charge.
    pub gateway_ref: Option<String>,
    /// Why it is, or is to be, undone.
    pub cause: Option<RefundCause>,
    /// Whether an answer to that is owed.
    pub undo: Undo,
    /// Timed out, but the gateway may have charged.
    pub unresolved: bool,
    /// What goes back, or went back, for returns, by return.
    pub refunds: BTreeMap<Uuid, ReturnRefund>,
    /// Counts its facts.
    pub version: i64,
    /// What the errands must remember.
    pub progress: Progress,
    /// The facts that this batch adds.
    pub news: Vec<Fact>,
}

impl Payment {
    /// A payment to which nothing has happened yet.
    pub(super) fn new(order_id: Uuid) -> Self {
        Self {
            order_id,
            payment_id: derive_id(order_id, "payment"),
            state: State::Pending,
            amount: 0,
            captured: 0,
            refunded: 0,
            currency: Currency::new(),
            payment_method: String::new(),
            expires_at: None,
            gateway_ref: None,
            cause: None,
            undo: Undo::None,
            unresolved: false,
            refunds: BTreeMap::new(),
            version: 0,
            progress: Progress {
                attempts: 0,
                refund_attempts: 0,
                doubt: false,
                trouble: None,
                due: Due::Never,
                changed: false,
            },
            news: Vec::new(),
        }
    }

    /// The payment that these facts, all of them and in order, amount to.
    pub fn fold<'a>(order_id: Uuid, facts: impl IntoIterator<Item = &'a Fact>) -> Self {
        let mut payment = Self::new(order_id);
        facts.into_iter().for_each(|fact| payment.apply(fact));
        payment
    }

    /// Lets something happen.
    pub(super) fn record(&mut self, fact: Fact) {
        self.apply(&fact);
        self.news.push(fact);
    }

    fn apply(&mut self, fact: &Fact) {
        self.version += 1;
        match fact {
            Fact::Requested {
                amount,
                currency,
                payment_method,
                expires_at,
            } => {
                self.state = State::Pending;
                self.amount = *amount;
                self.currency.clone_from(currency);
                self.payment_method.clone_from(payment_method);
                self.expires_at = Some(*expires_at);
            }
            Fact::UndoRequested { cause } => (self.undo, self.cause) = (Undo::Wanted, Some(*cause)),
            Fact::Captured {
                amount, gateway_ref, ..
            } => {
                (self.state, self.captured, self.unresolved) = (State::Succeeded, *amount, false);
                self.gateway_ref = Some(gateway_ref.clone());
            }
            Fact::Declined { .. } => self.state = State::Declined,
            Fact::TimedOut { unresolved, .. } => (self.state, self.unresolved) = (State::TimedOut, *unresolved),
            Fact::FoundUncharged {} => self.unresolved = false,
            Fact::Voided { cause } => {
                (self.state, self.undo, self.cause) = (State::Voided, Undo::Answered, Some(*cause));
            }
            Fact::UndoAnswered { cause } => (self.undo, self.cause) = (Undo::Answered, Some(*cause)),
            Fact::RefundRequested { cause, .. } => (self.state, self.cause) = (State::Refunding, Some(*cause)),
            Fact::Refunded { amount, .. } => {
                (self.state, self.refunded) = (State::Refunded, *amount);
                if self.undo == Undo::Wanted {
                    self.undo = Undo::Answered;
                }
            }
            _ => self.apply_return(fact),
        }
    }

    fn apply_return(&mut self, fact: &Fact) {
        match fact {
            Fact::ReturnRefundRequested {
                refund_id,
                return_id,
                amount,
            } => {
                self.cause = Some(RefundCause::GoodsReturned);
                self.refunds.insert(*return_id, ReturnRefund::new(*refund_id, *amount));
            }
            Fact::ReturnRefunded { return_id, amount, .. } => {
                self.turn_refund(return_id, RefundState::Done, None);
                self.refunded += amount;
                if self.refunded == self.captured {
                    self.state = State::Refunded;
                }
            }
            Fact::ReturnRefundRefused { return_id, code, .. } => {
                self.turn_refund(return_id, RefundState::Refused, Some(code.clone()));
            }
            Fact::ReturnRefundRetried { return_id, .. } => {
                self.turn_refund(return_id, RefundState::Due, None);
                if let Some(refund) = self.refunds.get_mut(return_id) {
                    refund.retries += 1;
                }
            }
            _ => {}
        }
    }

    fn turn_refund(&mut self, return_id: &Uuid, state: RefundState, trouble: Option<String>) {
        if let Some(refund) = self.refunds.get_mut(return_id) {
            refund.turn(state, trouble);
        }
    }

    /// The version that is in the database; 0 for a new payment.
    pub fn saved_version(&self) -> i64 {
        self.version - self.news.len() as i64
    }

    /// Whether this batch changed it.
    pub fn is_changed(&self) -> bool {
        self.progress.changed || !self.news.is_empty() || self.refunds.values().any(|refund| refund.progress.changed)
    }

    pub(super) fn take_up(&mut self, due: Due) {
        self.progress.due = due;
        self.progress.changed = true;
    }

    pub(super) fn succeeded(&self, gateway_ref: String) -> PaymentSucceeded {
        PaymentSucceeded {
            order_id: self.order_id,
            payment_id: self.payment_id,
            amount: self.captured,
            currency: self.currency.clone(),
            gateway_ref,
        }
    }

    pub(super) fn declined(&self, code: String) -> PaymentDeclined {
        PaymentDeclined {
            order_id: self.order_id,
            payment_id: self.payment_id,
            code,
            attempts: self.progress.attempts,
        }
    }

    pub(super) fn timed_out(&self, code: String) -> PaymentTimedOut {
        PaymentTimedOut {
            order_id: self.order_id,
            payment_id: self.payment_id,
            code,
            attempts: self.progress.attempts,
        }
    }

    pub(super) fn refunded(&self, cause: RefundCause) -> PaymentRefunded {
        PaymentRefunded {
            order_id: self.order_id,
            payment_id: self.payment_id,
            refund_id: refund_id(self.order_id),
            amount: self.refunded,
            cause,
            return_id: None,
        }
    }

    pub(super) fn voided(&self, cause: RefundCause) -> PaymentVoided {
        PaymentVoided {
            order_id: self.order_id,
            payment_id: self.payment_id,
            refund_id: None,
            amount: 0,
            cause,
        }
    }
}

/// The one refund that an order's payment can have, also its idempotency key.
pub fn refund_id(order_id: Uuid) -> Uuid {
    derive_id(order_id, "refund")
}

/// Whether this can be a token: letters first, then letters, digits and underscores, and nowhere as many digits
/// in a row as a card number has.
pub(super) fn is_token(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let longest_number = text.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
    text.len() <= 255
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(word)
        && longest_number.unwrap_or(0) < 13
}
