//! What the book consists of: facts, one line of JSON each, never changed once written.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::token::Token;

/// A line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub(crate) enum Fact {
    /// A payment was charged or declined, as its token says.
    Attempted(Attempt),
    /// A payment that took no money was called off.
    Canceled(Cancellation),
    /// Money went back.
    Refunded(Refund),
}

/// A payment that was tried; its outcome follows from the token.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) id: Uuid,
    pub(crate) claim: Option<Claim>,
    /// In minor units, above zero.
    pub(crate) amount: i64,
    pub(crate) currency: Currency,
    pub(crate) payment_method: Token,
    pub(crate) metadata: Metadata,
    /// Unix seconds.
    pub(crate) created: u64,
}

/// A payment intent that was called off.
#[derive(Serialize, Deserialize)]
pub(crate) struct Cancellation {
    pub(crate) payment_intent: Uuid,
    pub(crate) claim: Option<Claim>,
    /// Unix seconds.
    pub(crate) at: u64,
}

/// Money that went back to the card.
#[derive(Serialize, Deserialize)]
pub(crate) struct Refund {
    pub(crate) id: Uuid,
    pub(crate) payment_intent: Uuid,
    pub(crate) claim: Option<Claim>,
    /// In minor units, above zero.
    pub(crate) amount: i64,
    pub(crate) metadata: Metadata,
    /// Unix seconds.
    pub(crate) created: u64,
}

/// An idempotency key, and the digest of the request that it stands for.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) key: Box<str>,
    pub(crate) request: Uuid,
}

/// A currency in Stripe's spelling: three lower-case letters.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Currency([u8; 3]);

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.map(char::from).iter().collect::<String>())
    }
}

impl TryFrom<String> for Currency {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(letters) if letters.iter().all(u8::is_ascii_alphabetic) => {
                Ok(Self(letters.map(|c| c.to_ascii_lowercase())))
            }
            _ => Err("a currency is three letters"),
        }
    }
}

/// The caller's own words about an object; `order_id` is kept apart, because payments are looked up by it.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "BTreeMap<String, String>")]
pub(crate) struct Metadata {
    pub(crate) order_id: Option<Box<str>>,
    others: Box<[(Box<str>, Box<str>)]>,
}

impl From<BTreeMap<String, String>> for Metadata {
    fn from(mut words: BTreeMap<String, String>) -> Self {
        let order_id = words.remove("order_id").map(String::into_boxed_str);
        Self {
            order_id,
            others: words
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let order_id = self.order_id.as_deref().map(|value| ("order_id", value));
        serializer.collect_map(
            order_id
                .into_iter()
                .chain(self.others.iter().map(|(name, value)| (&**name, &**value))),
        )
    }
}

/// An id as callers see it: what it names, then the number. An intent and its charge share the number.
pub(crate) struct Tagged(pub(crate) &'static str, pub(crate) Uuid);

impl Tagged {
    /// The number behind `tag` in `text`.
    pub(crate) fn parse(tag: &str, text: &str) -> Option<Uuid> {
        Uuid::try_parse(text.strip_prefix(tag)?.strip_prefix('_')?).ok()
    }
}

impl fmt::Display for Tagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.0, self.1.simple())
    }
}

impl Serialize for Tagged {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A digest that stays the same from one release to the next.
pub(crate) fn digest(bytes: &[u8]) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, bytes)
}

/// Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
