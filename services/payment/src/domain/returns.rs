//! Refunds of returns: one each, several at once, and never more than was taken.
//!
//! What the gateway refuses for good is not tried again by itself: it waits for an operator, who looks at the account
//! and has it [tried again](Payments::retry_return_refund).

use std::time::Duration;

use events::{Fault, PaymentRefunded, RefundCause, ReturnReceived, derive_id};
use telemetry::TraceContext;
use uuid::Uuid;

use super::fact::Fact;
use super::payment::{Due, Payment, State};
use super::{Account, Payments, Transfer};

/// What goes back, or went back, for one return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnRefund {
    /// The one refund that the return can have.
    pub refund_id: Uuid,
    /// In minor units.
    pub amount: i64,
    /// Where it stands.
    pub state: RefundState,
    /// How often an operator had it tried again.
    pub retries: i32,
    /// What the errand must remember; no part of the fold.
    pub progress: RefundProgress,
}

/// Where the refund of a return stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundState {
    /// To be given back, or being given back.
    Due,
    /// Given back.
    Done,
    /// The gateway will not: an operator has to look.
    Refused,
}

/// What the errand must remember of a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundProgress {
    /// How often the gateway was asked, counted before each call.
    pub attempts: i32,
    /// Why the last attempt did not settle it.
    pub trouble: Option<String>,
    /// When it is taken up next.
    pub due: Due,
    /// The event that asked for it, and its span.
    pub asked: Asked,
    /// Whether it is in the database.
    pub saved: bool,
    /// Whether this batch changed it.
    pub changed: bool,
}

/// Who asked for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The event.
    pub event_id: Option<Uuid>,
    /// Its span.
    pub trace: TraceContext,
}

/// How an operator's wish to have a refund tried again is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It will be.
    UnderWay,
    /// It was not refused, so nobody needs to ask.
    NotRefused(RefundState),
    /// There is no such refund.
    Unknown,
}

impl ReturnRefund {
    pub(super) fn new(refund_id: Uuid, amount: i64) -> Self {
        let asked = Asked {
            event_id: None,
            trace: TraceContext::NONE,
        };
        Self {
            refund_id,
            amount,
            state: RefundState::Due,
            retries: 0,
            progress: RefundProgress {
                attempts: 0,
                trouble: None,
                due: Due::In(Duration::ZERO),
                asked,
                saved: false,
                changed: true,
            },
        }
    }

    pub(super) fn turn(&mut self, state: RefundState, trouble: Option<String>) {
        self.state = state;
        self.progress.trouble = trouble;
        self.progress.due = match state {
            RefundState::Due => Due::In(Duration::ZERO),
            RefundState::Done | RefundState::Refused => Due::Never,
        };
        self.progress.changed = true;
    }

    /// Whether this is the attempt that counts: no later one has begun, and nothing is settled.
    fn awaits(&self, attempt: i32) -> bool {
        self.state == RefundState::Due && self.progress.attempts == attempt
    }
}

impl Payments {
    /// Takes on the refund of a return, once; what is worth nothing is settled at once.
    pub fn refund_return(&mut self, back: &ReturnReceived, asked: Asked) -> Result<Option<PaymentRefunded>, Fault> {
        // Only what was delivered comes back, and only what is paid is delivered: anything else is a fault.
        let unpaid = || Fault::new("goods came back for an order whose payment was not kept");
        let payment = self.payments.get_mut(&back.order_id).ok_or_else(unpaid)?;
        if payment.refunds.contains_key(&back.return_id) {
            return Ok(None);
        }
        if !payment.is_kept() {
            return Err(unpaid());
        }
        if !(0..=payment.left()).contains(&back.refundable) {
            return Err(Fault::new("more is to be paid back than is left of what was taken"));
        }
        payment.record(Fact::ReturnRefundRequested {
            refund_id: return_refund_id(back.return_id),
            return_id: back.return_id,
            amount: back.refundable,
        });
        if let Some(refund) = payment.refunds.get_mut(&back.return_id) {
            refund.progress.asked = asked;
        }
        // The gateway gives back no less than a cent.
        let nothing = back.refundable == 0;
        Ok(nothing
            .then(|| self.settle_return_refund(back.order_id, back.return_id, String::new()))
            .flatten())
    }

    /// The money of a return went back; true whoever says it and however late.
    pub fn settle_return_refund(
        &mut self,
        order_id: Uuid,
        return_id: Uuid,
        gateway_ref: String,
    ) -> Option<PaymentRefunded> {
        let payment = self.payments.get_mut(&order_id)?;
        let refund = payment.refunds.get(&return_id);
        let ReturnRefund { refund_id, amount, .. } = *refund.filter(|refund| refund.state != RefundState::Done)?;
        payment.record(Fact::ReturnRefunded {
            refund_id,
            return_id,
            amount,
            gateway_ref,
        });
        let payment_id = payment.payment_id;
        if amount > 0 {
            self.transfers.push(Transfer {
                transaction_id: refund_id,
                debited: Account::Sales,
                credited: Account::GatewayReceivable,
                amount,
                order_id,
            });
        }
        Some(PaymentRefunded {
            order_id,
            payment_id,
            refund_id,
            amount,
            cause: RefundCause::GoodsReturned,
            return_id: Some(return_id),
        })
    }

    /// The money could not be sent back for now: it is tried again after a while.
    pub fn put_off_return_refund(&mut self, order_id: Uuid, return_id: Uuid, attempt: i32, put_off: (&str, Duration)) {
        let (trouble, wait) = put_off;
        if let Some(refund) = self
            .return_refund(order_id, return_id)
            .filter(|refund| refund.awaits(attempt))
        {
            refund.turn(RefundState::Due, Some(trouble.to_owned()));
            refund.progress.due = Due::In(wait);
        }
    }

    /// The gateway will not give the money back: from now on it is up to an operator.
    pub fn refuse_return_refund(&mut self, order_id: Uuid, return_id: Uuid, attempt: i32, code: &str) {
        let Some(payment) = self.payments.get_mut(&order_id) else {
            return;
        };
        let refund = payment.refunds.get(&return_id).filter(|refund| refund.awaits(attempt));
        if let Some(refund_id) = refund.map(|refund| refund.refund_id) {
            payment.record(Fact::ReturnRefundRefused {
                refund_id,
                return_id,
                code: code.to_owned(),
            });
        }
    }

    /// An operator has looked: the gateway is asked again, under [another key](refund_key).
    pub fn retry_return_refund(&mut self, order_id: Uuid, return_id: Uuid) -> Retry {
        let Some(payment) = self.payments.get_mut(&order_id) else {
            return Retry::Unknown;
        };
        match payment.refunds.get(&return_id) {
            None => Retry::Unknown,
            Some(refund) if refund.state != RefundState::Refused => Retry::NotRefused(refund.state),
            Some(refund) => {
                let refund_id = refund.refund_id;
                payment.record(Fact::ReturnRefundRetried { refund_id, return_id });
                Retry::UnderWay
            }
        }
    }

    fn return_refund(&mut self, order_id: Uuid, return_id: Uuid) -> Option<&mut ReturnRefund> {
        self.payments.get_mut(&order_id)?.refunds.get_mut(&return_id)
    }
}

impl Payment {
    /// Whether the money was taken, and is not given back as a whole.
    fn is_kept(&self) -> bool {
        let returned = self.state == State::Refunded && self.cause == Some(RefundCause::GoodsReturned);
        self.state == State::Succeeded || returned
    }

    /// What is neither given back nor promised to a return, in minor units.
    fn left(&self) -> i64 {
        self.captured - self.refunds.values().map(|refund| refund.amount).sum::<i64>()
    }
}

/// The one refund that a return can have.
pub(super) fn return_refund_id(return_id: Uuid) -> Uuid {
    derive_id(return_id, "refund")
}

/// The idempotency key of a return's refund: as long as nobody knows what became of it, the same.
///
/// A gateway repeats what it answered under a key, its refusals included: after a refusal, and only then, there is
/// nothing to be done twice, and an operator's retry has a key of its own.
/// Source: <https://docs.stripe.com/api/idempotent_requests>.
pub fn refund_key(return_id: Uuid, retries: i32) -> Uuid {
    let refund_id = return_refund_id(return_id);
    match retries {
        0 => refund_id,
        _ => derive_id(refund_id, &format!("retry {retries}")),
    }
}

#[cfg(test)]
mod tests;
