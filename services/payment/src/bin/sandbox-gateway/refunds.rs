//! What the gateway decides about refunds.

use axum::http::StatusCode;
use uuid::Uuid;

use crate::book::Book;
use crate::facts::{Claim, Fact, Metadata, Refund, now};
use crate::refusal::Refusal;
use crate::token::Token;
use crate::views::Reply;

/// A refund that is asked for.
pub(crate) struct RefundOrder {
    pub(crate) payment_intent: String,
    /// In minor units; without it, all that is left.
    pub(crate) amount: Option<i64>,
    pub(crate) metadata: Metadata,
    pub(crate) claim: Option<Claim>,
}

impl Book {
    /// Gives money back, never more than was charged.
    pub(crate) fn refund_payment(&mut self, order: RefundOrder) -> Result<Reply, Refusal> {
        if let Some(reply) = self.replay(order.claim.as_ref())? {
            return Ok(reply);
        }
        let intent = self
            .intent(&order.payment_intent)
            .map_err(|missing| missing.param("payment_intent"))?;
        let left = intent.charged() - intent.refunded;
        if intent.charged() == 0 {
            return Err(
                Refusal::invalid("This PaymentIntent does not have a successful charge to refund.")
                    .param("payment_intent"),
            );
        }
        if left == 0 {
            return Err(Refusal::invalid("The charge has already been refunded.").code("charge_already_refunded"));
        }
        let amount = order.amount.unwrap_or(left);
        if amount > left {
            return Err(Refusal::invalid(format!(
                "Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
            ))
            .code("amount_too_large")
            .param("amount"));
        }
        let (payment_intent, token) = (intent.attempt.id, intent.attempt.payment_method);
        if token == Token::FlakyRefund && self.fails(order.claim.as_ref()) {
            return Err(Refusal::failure(
                StatusCode::INTERNAL_SERVER_ERROR,
                "An unknown error occurred.",
            ));
        }
        let RefundOrder { metadata, claim, .. } = order;
        self.record(Fact::Refunded(Refund {
            id: Uuid::now_v7(),
            payment_intent,
            claim,
            amount,
            metadata,
            created: now(),
        }))
    }
}
