//! The rules of a payment: charged at most once, and what was taken for an order that is undone goes back.
//!
//! A payment is what its facts amount to. What the gateway has done is known only when it said so, never
//! because it said nothing: until then nobody is told that a payment was called off.

mod fact;
mod payment;
mod returns;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::SubsecRound;
use events::{
    Draft, Emits, Event, EventType, Fault, InventoryReserved, PaymentDeclined, PaymentRefunded, PaymentSucceeded,
    PaymentTimedOut, PaymentVoided, RefundCause, derive_id,
};
use uuid::Uuid;

pub use fact::Fact;
pub use payment::{Due, Payment, Progress, State, Undo, refund_id};
pub use returns::{Asked, RefundProgress, RefundState, Retry, ReturnRefund, refund_key};

/// The payments that a batch touches.
#[derive(Debug, Default)]
pub struct Payments {
    /// Payments by order.
    pub payments: BTreeMap<Uuid, Payment>,
    /// The event that asked last for something, by order.
    pub asked_by: BTreeMap<Uuid, Uuid>,
    /// The money that this batch moves.
    pub transfers: Vec<Transfer>,
    /// Those of the batch's notices that were acted on before.
    pub known_notices: BTreeSet<String>,
    /// Those that this batch acts on.
    pub new_notices: BTreeSet<String>,
}

/// Money that moves from one account to another: one amount, hence debit and credit are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The same transfer has the same id, so that it cannot be booked twice.
    pub transaction_id: Uuid,
    /// The account that is debited.
    pub debited: Account,
    /// The account that is credited.
    pub credited: Account,
    /// In minor units.
    pub amount: i64,
    /// The order.
    pub order_id: Uuid,
}

/// An account of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// What the gateway owes us.
    GatewayReceivable,
    /// What customers paid.
    Sales,
}

/// What an attempt to charge came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The money was taken.
    Charged {
        /// What the gateway calls the charge.
        gateway_ref: String,
    },
    /// The gateway said no.
    Declined {
        /// Its word for why.
        code: String,
    },
    /// It knows of no charge; only asked when none is wanted any more.
    NotCharged {
        /// When to ask again if a call of ours may still be on its way.
        look_again: Duration,
    },
    /// It gave no answer that tells.
    Unknown {
        /// In a word, for those who look.
        trouble: &'static str,
        /// Whether a call of ours may still be on its way.
        doubt: bool,
        /// When to ask again.
        wait: Duration,
        /// Whether this was the last chance before giving up.
        last: bool,
    },
}

/// What the order is told when an attempt to charge is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The money was taken.
    Succeeded(PaymentSucceeded),
    /// The gateway said no.
    Declined(PaymentDeclined),
    /// The gateway said nothing in time.
    TimedOut(PaymentTimedOut),
    /// Nothing was taken, as was asked.
    Voided(PaymentVoided),
}

impl Emits for Told {
    fn into_drafts(self) -> Result<Vec<Draft>, Fault> {
        let draft = match self {
            Self::Succeeded(event) => Draft::of(&event),
            Self::Declined(event) => Draft::of(&event),
            Self::TimedOut(event) => Draft::of(&event),
            Self::Voided(event) => Draft::of(&event),
        };
        Ok(vec![draft?])
    }

    fn types() -> Vec<EventType> {
        vec![
            PaymentSucceeded::TYPE,
            PaymentDeclined::TYPE,
            PaymentTimedOut::TYPE,
            PaymentVoided::TYPE,
        ]
    }
}

impl Payments {
    /// Takes on a payment, once; what is no token is declined unseen, and what was undone before stays undone.
    pub fn request(&mut self, order: &InventoryReserved) -> Result<Option<PaymentDeclined>, Fault> {
        if self.payments.contains_key(&order.order_id) {
            return Ok(None);
        }
        if order.amount < 0 {
            return Err(Fault::new("the amount to be paid is below zero"));
        }
        let usable = payment::is_token(&order.payment_method);
        let payment_method = if usable {
            order.payment_method.clone()
        } else {
            String::new()
        };
        let payment = self.open(order.order_id);
        payment.record(Fact::Requested {
            amount: order.amount,
            currency: order.currency.clone(),
            payment_method,
            // As precise as the database, so that the row and the fold agree.
            expires_at: order.expires_at.trunc_subsecs(6),
        });
        if usable {
            payment.take_up(Due::In(Duration::ZERO));
            return Ok(None);
        }
        let code = "invalid_payment_method".to_owned();
        payment.record(Fact::Declined {
            code: code.clone(),
            attempts: 0,
        });
        Ok(Some(payment.declined(code)))
    }

    /// Undoes the payment of a cancelled order; says so only when nothing was taken for certain.
    pub fn undo(&mut self, order_id: Uuid) -> Option<PaymentVoided> {
        let cause = RefundCause::OrderCancelled;
        let Some(payment) = self.payments.get_mut(&order_id) else {
            return Some(void(self.open(order_id), cause));
        };
        match (payment.state, payment.undo) {
            // What came back in part cannot be called off as well.
            (State::Succeeded, _) if payment.refunds.is_empty() => {
                refund(payment, cause);
                None
            }
            (State::Pending, Undo::None) if payment.progress.attempts == 0 => Some(void(payment, cause)),
            (State::Pending, Undo::None) => {
                payment.record(Fact::UndoRequested { cause });
                None
            }
            (State::TimedOut, Undo::None) if payment.unresolved => {
                payment.record(Fact::UndoRequested { cause });
                None
            }
            (State::Declined | State::TimedOut, Undo::None) => Some(answer_undo(payment, cause)),
            _ => None,
        }
    }

    /// Pays back an order that cannot be delivered.
    pub fn pay_back(&mut self, order_id: Uuid) -> Result<(), Fault> {
        // A parcel is only tried for a paid order: anything else is a fault.
        let unpaid = || Fault::new("a shipment failed for an order that was never paid");
        let payment = self.payments.get_mut(&order_id).ok_or_else(unpaid)?;
        match payment.state {
            State::Refunding | State::Refunded => Ok(()),
            State::Succeeded if !payment.refunds.is_empty() => Err(Fault::new("a parcel failed that came back")),
            State::Succeeded => {
                refund(payment, RefundCause::ShippingFailed);
                Ok(())
            }
            State::Pending | State::Declined | State::TimedOut | State::Voided => Err(unpaid()),
        }
    }

    /// Settles an attempt to charge. That money was taken, or refused, is true whoever says it and however late;
    /// that nothing is known counts only while no later attempt has begun.
    pub fn settle(&mut self, order_id: Uuid, attempt: i32, outcome: Outcome) -> Option<Told> {
        let payment = self
            .payments
            .get_mut(&order_id)
            .filter(|payment| payment.captured == 0)?;
        let latest = payment.progress.attempts == attempt;
        match outcome {
            Outcome::Charged { gateway_ref } => {
                let transfer = capture_of(payment);
                let told = charged(payment, gateway_ref);
                self.transfers.push(transfer);
                told.map(Told::Succeeded)
            }
            Outcome::Declined { code } => declined(payment, code),
            Outcome::NotCharged { look_again } if latest => not_charged(payment, look_again),
            Outcome::Unknown {
                trouble,
                doubt,
                wait,
                last,
            } if latest => {
                payment.progress.doubt = doubt;
                payment.progress.trouble = Some(trouble.to_owned());
                payment.take_up(Due::In(wait));
                (last && payment.state == State::Pending).then(|| Told::TimedOut(time_out(payment, true)))
            }
            Outcome::NotCharged { .. } | Outcome::Unknown { .. } => None,
        }
    }

    /// The money went back.
    pub fn settle_refund(&mut self, order_id: Uuid, gateway_ref: String) -> Option<PaymentRefunded> {
        let payment = self.refunding(order_id)?;
        let (refund_id, amount, cause) = (refund_id(order_id), payment.captured, payment.cause?);
        payment.record(Fact::Refunded {
            refund_id,
            amount,
            gateway_ref,
        });
        payment.progress.trouble = None;
        payment.take_up(Due::Never);
        let told = payment.refunded(cause);
        self.transfers.push(Transfer {
            transaction_id: refund_id,
            debited: Account::Sales,
            credited: Account::GatewayReceivable,
            amount,
            order_id,
        });
        Some(told)
    }

    /// The money could not be sent back, or nobody knows: it will be tried again, for as long as it takes.
    pub fn put_off_refund(&mut self, order_id: Uuid, attempt: i32, trouble: &'static str, wait: Duration) {
        let payment = self.refunding(order_id);
        if let Some(payment) = payment.filter(|payment| payment.progress.refund_attempts == attempt) {
            payment.progress.trouble = Some(trouble.to_owned());
            payment.take_up(Due::In(wait));
        }
    }

    /// The gateway says that something happened to a payment: it will be asked what, once a notice.
    pub fn notice(&mut self, order_id: Uuid, notice: &str) {
        if self.known_notices.contains(notice) || !self.new_notices.insert(notice.to_owned()) {
            return;
        }
        let payment = self.payments.get_mut(&order_id);
        // Before the first call there is nothing that it could be about, and after the last nothing to learn.
        if let Some(payment) = payment.filter(|payment| payment.captured == 0 && payment.progress.attempts > 0) {
            payment.take_up(Due::In(Duration::ZERO));
        }
    }

    fn open(&mut self, order_id: Uuid) -> &mut Payment {
        self.payments.entry(order_id).or_insert_with(|| Payment::new(order_id))
    }

    fn refunding(&mut self, order_id: Uuid) -> Option<&mut Payment> {
        let payment = self.payments.get_mut(&order_id);
        payment.filter(|payment| payment.state == State::Refunding)
    }
}

fn capture_of(payment: &Payment) -> Transfer {
    Transfer {
        transaction_id: derive_id(payment.order_id, "capture"),
        debited: Account::GatewayReceivable,
        credited: Account::Sales,
        amount: payment.amount,
        order_id: payment.order_id,
    }
}

/// A charge that comes after the payment was undone or given up goes back and never revives the order.
fn charged(payment: &mut Payment, gateway_ref: String) -> Option<PaymentSucceeded> {
    let late = match (payment.state, payment.undo) {
        (State::Pending, Undo::Wanted) => payment.cause,
        (State::Pending, _) => None,
        _ => Some(RefundCause::ChargedTooLate),
    };
    payment.record(Fact::Captured {
        amount: payment.amount,
        gateway_ref: gateway_ref.clone(),
        attempts: payment.progress.attempts,
    });
    payment.progress.doubt = false;
    payment.progress.trouble = None;
    payment.take_up(Due::Never);
    match late {
        Some(cause) => {
            refund(payment, cause);
            None
        }
        None => Some(payment.succeeded(gateway_ref)),
    }
}

fn declined(payment: &mut Payment, code: String) -> Option<Told> {
    payment.progress.doubt = false;
    match (payment.state, payment.undo, payment.cause) {
        (State::Pending, Undo::Wanted, Some(cause)) => Some(Told::Voided(void(payment, cause))),
        (State::Pending, ..) => {
            payment.record(Fact::Declined {
                code: code.clone(),
                attempts: payment.progress.attempts,
            });
            payment.take_up(Due::Never);
            Some(Told::Declined(payment.declined(code)))
        }
        _ => resolve(payment),
    }
}

/// While a call of ours may still be on its way, that nothing was charged is not yet the last word.
fn not_charged(payment: &mut Payment, look_again: Duration) -> Option<Told> {
    let doubt = std::mem::take(&mut payment.progress.doubt);
    payment.take_up(if doubt { Due::In(look_again) } else { Due::Never });
    match (payment.state, payment.undo, payment.cause) {
        (State::Pending, Undo::Wanted, Some(cause)) if !doubt => Some(Told::Voided(void(payment, cause))),
        (State::Pending, Undo::Wanted, _) => None,
        (State::Pending, ..) => Some(Told::TimedOut(time_out(payment, doubt))),
        _ if doubt => None,
        _ => resolve(payment),
    }
}

/// Nothing was taken, now it is certain; the order is told if it waits for that.
fn resolve(payment: &mut Payment) -> Option<Told> {
    payment.take_up(Due::Never);
    if !payment.unresolved {
        return None;
    }
    payment.record(Fact::FoundUncharged {});
    let owed = payment.cause.filter(|_| payment.undo == Undo::Wanted)?;
    Some(Told::Voided(answer_undo(payment, owed)))
}

fn time_out(payment: &mut Payment, unresolved: bool) -> PaymentTimedOut {
    let code = payment.progress.trouble.clone().unwrap_or_else(|| "expired".to_owned());
    payment.record(Fact::TimedOut {
        code: code.clone(),
        attempts: payment.progress.attempts,
        unresolved,
    });
    payment.timed_out(code)
}

fn void(payment: &mut Payment, cause: RefundCause) -> PaymentVoided {
    payment.record(Fact::Voided { cause });
    payment.take_up(Due::Never);
    payment.voided(cause)
}

fn answer_undo(payment: &mut Payment, cause: RefundCause) -> PaymentVoided {
    payment.record(Fact::UndoAnswered { cause });
    payment.voided(cause)
}

fn refund(payment: &mut Payment, cause: RefundCause) {
    payment.record(Fact::RefundRequested {
        refund_id: refund_id(payment.order_id),
        amount: payment.captured,
        cause,
    });
    payment.take_up(Due::In(Duration::ZERO));
}
