//! What the email service tells.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::contract::{Published, published};
use crate::event::event;

/// Every event of this module.
pub(crate) const EVENTS: &[Published] = published![NotificationSent, NotificationFailed,];

/// A message was handed to the mail server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotificationSent {
    /// The order.
    pub order_id: Uuid,
    /// Which message, `order_confirmed`.
    pub template: String,
    /// How it went, `email`.
    pub channel: String,
    /// Its `Message-ID`.
    pub message_id: String,
}
event!(NotificationSent, Email, v 1, order_id);

/// A message could not be delivered and will not be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotificationFailed {
    /// The order.
    pub order_id: Uuid,
    /// Which message.
    pub template: String,
    /// How it was tried, `email`.
    pub channel: String,
    /// Its `Message-ID`.
    pub message_id: String,
}
event!(NotificationFailed, Email, v 1, order_id);
