//! The rules of mail: a template is sent once an order, or once a return, as soon as its recipient is known.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use either::Either::{self, Left, Right};
use events::{CancelReason, Customer, Line, NotificationFailed, NotificationSent, derive_id};
use serde::{Deserialize, Serialize};
use telemetry::TraceContext;
use uuid::Uuid;

/// The mail of the orders that a batch touches.
#[derive(Default)]
pub struct Mailroom {
    /// By order.
    pub orders: BTreeMap<Uuid, OrderMail>,
}

/// Whom to write to about an order, and what is to be written.
#[derive(Default)]
pub struct OrderMail {
    /// Unknown until `OrderPlaced` was heard.
    pub recipient: Option<Recipient>,
    /// What was asked for, by topic.
    pub notifications: BTreeMap<Topic, Notification>,
    /// Counts changes of the recipient; 0 before it was first saved.
    pub version: i64,
    /// Whether this batch changed the recipient, or has to keep its place.
    pub changed: bool,
}

/// Who ordered, and what. Personal data, hence without `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Who ordered.
    pub customer: Customer,
    /// What was ordered.
    pub lines: Vec<Line>,
    /// Sum of the lines in minor units.
    pub total: i64,
    /// Currency of every amount of the order.
    pub currency: String,
}

/// A message that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Where it stands.
    pub state: State,
    /// What it says.
    pub content: Content,
    /// Which event asked for it, where the journal of the batch does not say.
    pub asked: Option<Asked>,
    /// How long after the commit it is due.
    pub delay: Duration,
    /// Counts its changes; 0 before it was first saved.
    pub version: i64,
    /// Whether this batch changed it.
    pub changed: bool,
}

/// Who asked for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The event.
    pub event_id: Uuid,
    /// Its span.
    pub trace: TraceContext,
}

/// Which message of an order: a template, and the return that it is about, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic {
    /// The template.
    pub template: Template,
    /// The return.
    pub return_id: Option<Uuid>,
}

/// Which words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Template {
    /// The order is paid.
    OrderConfirmed,
    /// The parcel left the house.
    OrderShipped,
    /// The order is undone.
    OrderCancelled,
    /// Goods are expected back.
    OrderReturnRequested,
    /// Goods came back and are paid back.
    OrderRefunded,
    /// Goods came back and were refused.
    ReturnRejected,
}

/// What a message says beyond what was ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "template", rename_all = "snake_case")]
pub enum Content {
    /// The order is paid.
    OrderConfirmed,
    /// The parcel left the house.
    OrderShipped {
        /// Who carries it.
        carrier: String,
        /// The carrier's number.
        tracking: String,
    },
    /// The order is undone.
    OrderCancelled {
        /// Why.
        reason: CancelReason,
        /// What was paid back, in minor units.
        refunded: i64,
    },
    /// Goods are expected back.
    OrderReturnRequested {
        /// The return.
        return_id: Uuid,
        /// The goods.
        lines: Vec<Line>,
    },
    /// Goods came back and are paid back.
    OrderRefunded {
        /// The return.
        return_id: Uuid,
        /// What was paid back, in minor units.
        amount: i64,
    },
    /// Goods came back and were refused.
    ReturnRejected {
        /// The return.
        return_id: Uuid,
    },
}

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its recipient is not known yet.
    Waiting,
    /// It is to be sent.
    Pending,
    /// The mail server has it.
    Sent,
    /// It will never be sent.
    Failed,
}

/// How an attempt to send ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The mail server took it.
    Delivered,
    /// Trying again is pointless.
    Refused,
    /// It is to be tried again after this time.
    Postponed(Duration),
}

impl Mailroom {
    /// Remembers whom to write to; what waited for that can be sent.
    pub fn remember(&mut self, order_id: Uuid, recipient: Recipient) {
        let order = self.orders.entry(order_id).or_default();
        if order.recipient.is_some() {
            return;
        }
        order.recipient = Some(recipient);
        order.changed = true;
        let waiting = order
            .notifications
            .values_mut()
            .filter(|one| one.state == State::Waiting);
        for notification in waiting {
            notification.state = State::Pending;
            notification.changed = true;
        }
    }

    /// Asks for a message, unless it was asked for before.
    pub fn notify(&mut self, order_id: Uuid, content: Content) {
        self.notify_of(order_id, content, None);
    }

    /// The same for an event that is not the only one of its kind about the order.
    pub fn notify_of(&mut self, order_id: Uuid, content: Content, asked: Option<Asked>) {
        let order = self.orders.entry(order_id).or_default();
        let state = match order.recipient {
            Some(_) => State::Pending,
            None => State::Waiting,
        };
        // Keeps the order's place, so that whoever learns the recipient meanwhile finds this message.
        order.changed |= order.version == 0;
        order.notifications.entry(content.topic()).or_insert(Notification {
            state,
            content,
            asked,
            delay: Duration::ZERO,
            version: 0,
            changed: true,
        });
    }

    /// Writes down how an attempt ended; nothing is told twice, and nothing of an attempt that is not final.
    pub fn settle(
        &mut self,
        order_id: Uuid,
        topic: Topic,
        outcome: Outcome,
    ) -> Option<Either<NotificationSent, NotificationFailed>> {
        let notification = self.orders.get_mut(&order_id)?.notifications.get_mut(&topic)?;
        if notification.state != State::Pending {
            return None;
        }
        notification.changed = true;
        let (template, channel, message_id) = (
            topic.template.as_str().into(),
            "email".into(),
            message_id(order_id, topic),
        );
        match outcome {
            Outcome::Delivered => {
                notification.state = State::Sent;
                Some(Left(NotificationSent {
                    order_id,
                    template,
                    channel,
                    message_id,
                }))
            }
            Outcome::Refused => {
                notification.state = State::Failed;
                Some(Right(NotificationFailed {
                    order_id,
                    template,
                    channel,
                    message_id,
                }))
            }
            Outcome::Postponed(delay) => {
                notification.delay = delay;
                None
            }
        }
    }
}

impl Content {
    /// The message that says this.
    pub fn topic(&self) -> Topic {
        let of_return = |template, return_id: &Uuid| Topic {
            template,
            return_id: Some(*return_id),
        };
        match self {
            Self::OrderConfirmed => Template::OrderConfirmed.into(),
            Self::OrderShipped { .. } => Template::OrderShipped.into(),
            Self::OrderCancelled { .. } => Template::OrderCancelled.into(),
            Self::OrderReturnRequested { return_id, .. } => of_return(Template::OrderReturnRequested, return_id),
            Self::OrderRefunded { return_id, .. } => of_return(Template::OrderRefunded, return_id),
            Self::ReturnRejected { return_id } => of_return(Template::ReturnRejected, return_id),
        }
    }
}

impl Template {
    /// Every one of them, each named like the event that asks for it.
    pub const ALL: [Self; 6] = [
        Self::OrderConfirmed,
        Self::OrderShipped,
        Self::OrderCancelled,
        Self::OrderReturnRequested,
        Self::OrderRefunded,
        Self::ReturnRejected,
    ];

    /// The word for it in events and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrderConfirmed => "order_confirmed",
            Self::OrderShipped => "order_shipped",
            Self::OrderCancelled => "order_cancelled",
            Self::OrderReturnRequested => "order_return_requested",
            Self::OrderRefunded => "order_refunded",
            Self::ReturnRejected => "return_rejected",
        }
    }
}

impl From<Template> for Topic {
    /// About the order as a whole.
    fn from(template: Template) -> Self {
        Self {
            template,
            return_id: None,
        }
    }
}

impl fmt::Display for Topic {
    /// The word for it in the table: `order_shipped`, `order_refunded:0198…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.template.as_str())?;
        self.return_id.map_or(Ok(()), |return_id| write!(f, ":{return_id}"))
    }
}

/// The id of an order's message: the same whenever it is asked for.
pub fn notification_id(order_id: Uuid, topic: Topic) -> Uuid {
    derive_id(topic.return_id.unwrap_or(order_id), topic.template.as_str())
}

/// The `Message-ID` of an order's message, by which a copy can be recognised.
pub fn message_id(order_id: Uuid, topic: Topic) -> String {
    format!("<{}@tidings.example>", notification_id(order_id, topic))
}

#[cfg(test)]
#[path = "domain/tests.rs"]
mod tests;
