//! The rules of mail: a template is sent once an order, as soon as its recipient is known.

use std::collections::BTreeMap;
use std::time::Duration;

use either::Either::{self, Left, Right};
use events::{CancelReason, Customer, Line, NotificationFailed, NotificationSent, derive_id};
use serde::{Deserialize, Serialize};
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
    /// What was asked for, by template.
    pub notifications: BTreeMap<Template, Notification>,
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
    /// How long after the commit it is due.
    pub delay: Duration,
    /// Counts its changes; 0 before it was first saved.
    pub version: i64,
    /// Whether this batch changed it.
    pub changed: bool,
}

/// Which message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Template {
    /// The order is paid.
    OrderConfirmed,
    /// The parcel left the house.
    OrderShipped,
    /// The order is undone.
    OrderCancelled,
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
        let order = self.orders.entry(order_id).or_default();
        let state = match order.recipient {
            Some(_) => State::Pending,
            None => State::Waiting,
        };
        // Keeps the order's place, so that whoever learns the recipient meanwhile finds this message.
        order.changed |= order.version == 0;
        order.notifications.entry(content.template()).or_insert(Notification {
            state,
            content,
            delay: Duration::ZERO,
            version: 0,
            changed: true,
        });
    }

    /// Writes down how an attempt ended; nothing is told twice, and nothing of an attempt that is not final.
    pub fn settle(
        &mut self,
        order_id: Uuid,
        template: Template,
        outcome: Outcome,
    ) -> Option<Either<NotificationSent, NotificationFailed>> {
        let notification = self.orders.get_mut(&order_id)?.notifications.get_mut(&template)?;
        if notification.state != State::Pending {
            return None;
        }
        notification.changed = true;
        let (template, channel, message_id) =
            (template.as_str().into(), "email".into(), message_id(order_id, template));
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
    pub fn template(&self) -> Template {
        match self {
            Self::OrderConfirmed => Template::OrderConfirmed,
            Self::OrderShipped { .. } => Template::OrderShipped,
            Self::OrderCancelled { .. } => Template::OrderCancelled,
        }
    }
}

impl Template {
    /// Every one of them, each named like the event that asks for it.
    pub const ALL: [Self; 3] = [Self::OrderConfirmed, Self::OrderShipped, Self::OrderCancelled];

    /// The word for it in tables, events and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrderConfirmed => "order_confirmed",
            Self::OrderShipped => "order_shipped",
            Self::OrderCancelled => "order_cancelled",
        }
    }
}

/// The id of an order's message: the same whenever it is asked for.
pub fn notification_id(order_id: Uuid, template: Template) -> Uuid {
    derive_id(order_id, template.as_str())
}

/// The `Message-ID` of an order's message, by which a copy can be recognised.
pub fn message_id(order_id: Uuid, template: Template) -> String {
    format!("<{}@tidings.example>", notification_id(order_id, template))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const DELIVERED: Outcome = Outcome::Delivered;

    fn recipient() -> Recipient {
        Recipient {
            customer: Customer {
                id: Uuid::now_v7(),
                email: "ada@example.org".into(),
            },
            lines: Vec::new(),
            total: 0,
            currency: "EUR".into(),
        }
    }

    /// What is heard about one order, by number.
    fn hear(mailroom: &mut Mailroom, order_id: Uuid, event: u8) {
        let (carrier, tracking) = ("Swift".to_owned(), "SW-1".to_owned());
        let (reason, refunded) = (CancelReason::OutOfStock, 0);
        match event {
            0 => mailroom.remember(order_id, recipient()),
            1 => mailroom.notify(order_id, Content::OrderConfirmed),
            2 => mailroom.notify(order_id, Content::OrderShipped { carrier, tracking }),
            _ => mailroom.notify(order_id, Content::OrderCancelled { reason, refunded }),
        }
    }

    fn states(mailroom: &Mailroom, order_id: Uuid) -> Vec<(Template, State)> {
        let notifications = &mailroom.orders[&order_id].notifications;
        notifications
            .iter()
            .map(|(template, one)| (*template, one.state))
            .collect()
    }

    proptest! {
        #[test]
        fn whatever_the_order_and_however_often_each_message_is_asked_for_once(
            heard in Just((0..4_u8).chain(0..4).collect::<Vec<_>>()).prop_shuffle(),
            sent_after in 0..8_usize,
        ) {
            let (mut mailroom, order_id) = (Mailroom::default(), Uuid::now_v7());
            let mut told = 0;
            for (position, event) in heard.into_iter().enumerate() {
                hear(&mut mailroom, order_id, event);
                if position >= sent_after {
                    let all = Template::ALL.into_iter();
                    told += all.filter_map(|template| mailroom.settle(order_id, template, DELIVERED)).count();
                }
            }
            let sent = Template::ALL.map(|template| (template, State::Sent));
            prop_assert_eq!(states(&mailroom, order_id), sent.to_vec());
            prop_assert_eq!(told, Template::ALL.len());
        }
    }

    #[test]
    fn a_placed_order_gets_no_message() {
        let (mut mailroom, order_id) = (Mailroom::default(), Uuid::now_v7());
        hear(&mut mailroom, order_id, 0);
        assert_eq!(states(&mailroom, order_id), []);
    }

    #[test]
    fn a_message_waits_for_its_recipient_and_is_not_sent_before() {
        let (mut mailroom, order_id) = (Mailroom::default(), Uuid::now_v7());
        hear(&mut mailroom, order_id, 2);
        assert_eq!(states(&mailroom, order_id), [(Template::OrderShipped, State::Waiting)]);
        assert_eq!(mailroom.settle(order_id, Template::OrderShipped, DELIVERED), None);
        hear(&mut mailroom, order_id, 0);
        assert_eq!(states(&mailroom, order_id), [(Template::OrderShipped, State::Pending)]);
    }

    #[test]
    fn what_is_postponed_is_told_only_when_it_is_final() {
        let (mut mailroom, order_id) = (Mailroom::default(), Uuid::now_v7());
        hear(&mut mailroom, order_id, 0);
        hear(&mut mailroom, order_id, 1);
        let template = Template::OrderConfirmed;
        let later = Outcome::Postponed(Duration::from_secs(3));
        assert_eq!(mailroom.settle(order_id, template, later), None);
        let notification = &mailroom.orders[&order_id].notifications[&template];
        assert_eq!(
            (notification.state, notification.delay),
            (State::Pending, Duration::from_secs(3))
        );
        let failed = mailroom.settle(order_id, template, Outcome::Refused).unwrap();
        assert_eq!(failed.right().unwrap().template, "order_confirmed");
        assert_eq!(
            mailroom.settle(order_id, template, DELIVERED),
            None,
            "what failed stays failed"
        );
    }
}
