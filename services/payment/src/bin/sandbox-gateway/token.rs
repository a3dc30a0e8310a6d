//! The test payment methods and what becomes of them.

use serde::de::IntoDeserializer;
use serde::de::value::Error;
use serde::{Deserialize, Serialize};

/// A payment method of the sandbox; the name decides what happens, as in Stripe's test mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Token {
    /// Charges at once.
    #[serde(rename = "pm_card_visa")]
    Visa,
    /// Declines without a reason.
    #[serde(rename = "pm_card_chargeDeclined")]
    ChargeDeclined,
    /// Declines for want of money.
    #[serde(rename = "pm_card_insufficientFunds")]
    InsufficientFunds,
    /// Charges after three seconds, whether or not the caller still waits.
    #[serde(rename = "pm_card_slow")]
    Slow,
    /// Charges, but never answers the request that charged; later requests under its key are answered.
    #[serde(rename = "pm_card_timeoutAfterCharge")]
    TimeoutAfterCharge,
    /// Fails twice under each idempotency key without charging, then charges.
    #[serde(rename = "pm_card_flaky")]
    Flaky,
    /// Charges at once; each refund fails twice under its idempotency key, then goes through.
    #[serde(rename = "pm_card_flakyRefund")]
    FlakyRefund,
    /// Never available.
    #[serde(rename = "pm_card_down")]
    Down,
}

impl Token {
    /// The token of that name, if the sandbox has one.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::deserialize(IntoDeserializer::<Error>::into_deserializer(name)).ok()
    }

    /// Why the issuer declines this token; none when it pays.
    pub(crate) fn decline_code(self) -> Option<&'static str> {
        match self {
            Self::ChargeDeclined => Some("generic_decline"),
            Self::InsufficientFunds => Some("insufficient_funds"),
            Self::Visa | Self::Slow | Self::TimeoutAfterCharge | Self::Flaky | Self::FlakyRefund | Self::Down => None,
        }
    }
}
