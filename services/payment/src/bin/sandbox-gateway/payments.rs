//! What the gateway decides about payments.

use axum::http::StatusCode;

use crate::book::Book;
use crate::facts::{Attempt, Cancellation, Claim, Fact, digest, now};
use crate::refusal::Refusal;
use crate::token::Token;
use crate::views::Reply;

/// How often a flaky payment fails under each key.
const FLAKY_FAILURES: u8 = 2;

/// What becomes of a new payment.
pub(crate) enum Verdict {
    /// Charged, declined or replayed.
    Answered(Reply),
    /// To be settled after a while; until then its key is in flight.
    Later(Attempt),
}

impl Book {
    /// Answers a payment: once under each idempotency key, again and again without one.
    pub(crate) fn pay(&mut self, attempt: Attempt) -> Result<Verdict, Refusal> {
        if let Some(reply) = self.replay(attempt.claim.as_ref())? {
            return Ok(Verdict::Answered(reply));
        }
        match attempt.payment_method {
            Token::Down => {
                return Err(Refusal::failure(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "The payment network is unavailable.",
                ));
            }
            Token::Flaky if self.fails(attempt.claim.as_ref()) => {
                return Err(Refusal::failure(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "An unknown error occurred.",
                ));
            }
            Token::Slow => {
                if let Some(Claim { key, request }) = &attempt.claim {
                    self.in_flight.insert(digest(key.as_bytes()), *request);
                }
                return Ok(Verdict::Later(attempt));
            }
            _ => {}
        }
        self.settle(attempt).map(Verdict::Answered)
    }

    /// Writes down what the token decides, and frees the key.
    pub(crate) fn settle(&mut self, attempt: Attempt) -> Result<Reply, Refusal> {
        if let Some(Claim { key, .. }) = &attempt.claim {
            let slot = digest(key.as_bytes());
            self.in_flight.remove(&slot);
            self.failures.remove(&slot);
        }
        self.record(Fact::Attempted(attempt))
    }

    /// Counts a flaky payment, or refund; without a key each request is its own, so it never gets better.
    pub(crate) fn fails(&mut self, claim: Option<&Claim>) -> bool {
        let Some(claim) = claim else { return true };
        let failures = self.failures.entry(digest(claim.key.as_bytes())).or_default();
        let fails = *failures < FLAKY_FAILURES;
        *failures += u8::from(fails);
        fails
    }

    /// Calls off a payment that took no money; one that did must be refunded instead.
    pub(crate) fn cancel(&mut self, id: &str, claim: Option<Claim>) -> Result<Reply, Refusal> {
        if let Some(reply) = self.replay(claim.as_ref())? {
            return Ok(reply);
        }
        let intent = self.intent(id)?;
        if intent.charged() > 0 || intent.canceled_at.is_some() {
            let status = if intent.canceled_at.is_some() {
                "canceled"
            } else {
                "succeeded"
            };
            return Err(Refusal::invalid(format!(
                "You cannot cancel this PaymentIntent because it has a status of {status}."
            ))
            .code("payment_intent_unexpected_state"));
        }
        let payment_intent = intent.attempt.id;
        self.record(Fact::Canceled(Cancellation {
            payment_intent,
            claim,
            at: now(),
        }))
    }
}
