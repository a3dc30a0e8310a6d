//! What the tests of the email service share: events, and a view of its tables.
#![allow(dead_code, clippy::unwrap_used)]

use email::domain::Mailroom;
use email::{MailConfig, reactions};
use events::{Address, CancelReason, Customer, Line, OrderCancelled, OrderConfirmed, OrderPlaced, OrderShipped};
use messaging::{Decisions, Touched};
use sqlx::PgPool;
use uuid::Uuid;

pub(crate) mod smtp;

/// Everything that may be heard about one order.
#[derive(Clone)]
pub(crate) struct Story {
    pub(crate) order_id: Uuid,
    pub(crate) placed: OrderPlaced,
    pub(crate) confirmed: OrderConfirmed,
    pub(crate) shipped: OrderShipped,
    pub(crate) cancelled: OrderCancelled,
}

/// One event of a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Placed,
    Confirmed,
    Shipped,
    Cancelled,
}

pub(crate) fn story(email: &str) -> Story {
    let order_id = Uuid::now_v7();
    let customer = Customer {
        id: Uuid::now_v7(),
        email: email.into(),
    };
    let lines = vec![
        Line {
            sku: "tea-1".into(),
            name: "Green tea <loose>".into(),
            quantity: 2,
            unit_price: 1_250,
        },
        Line {
            sku: "cup-1".into(),
            name: "Cup & saucer".into(),
            quantity: 1,
            unit_price: 990,
        },
    ];
    let ship_to = address();
    let (total, currency) = (3_490, String::from("EUR"));
    Story {
        order_id,
        placed: OrderPlaced {
            order_id,
            customer: customer.clone(),
            lines: lines.clone(),
            total,
            currency: currency.clone(),
            ship_to: ship_to.clone(),
            payment_method: "pm_card_visa".into(),
            pay_by: chrono::Utc::now(),
        },
        confirmed: OrderConfirmed {
            order_id,
            customer: customer.clone(),
            lines: lines.clone(),
            ship_to,
            payment_id: Uuid::now_v7(),
            total,
            currency: currency.clone(),
        },
        shipped: OrderShipped {
            order_id,
            shipment_id: Uuid::now_v7(),
            carrier: "Swift & Sons".into(),
            tracking: "SW-42".into(),
            lines,
        },
        cancelled: OrderCancelled {
            order_id,
            customer,
            reason: CancelReason::PaymentDeclined,
            refunded: 0,
            currency,
        },
    }
}

fn address() -> Address {
    Address {
        name: "Ada".into(),
        street: "1 Long Lane".into(),
        city: "London".into(),
        postal_code: "N1".into(),
        country: "GB".into(),
    }
}

impl Story {
    pub(crate) fn tell(&self, mailroom: &mut Mailroom, heard: Heard) {
        match heard {
            Heard::Placed => reactions::remember(mailroom, &self.placed),
            Heard::Confirmed => reactions::confirm(mailroom, &self.confirmed),
            Heard::Shipped => reactions::announce(mailroom, &self.shipped),
            Heard::Cancelled => reactions::explain(mailroom, &self.cancelled),
        }
    }
}

/// Commits the reaction to each of these events in a transaction of its own.
pub(crate) async fn hear(decisions: &Decisions<Mailroom>, story: &Story, heard: &[Heard]) {
    for event in heard {
        let (story, event) = (story.clone(), *event);
        let touched = Touched::order(story.order_id);
        let react = move |mailroom: &mut Mailroom| (story.tell(mailroom, event), ());
        decisions.decide(touched, react).await.unwrap();
    }
}

/// Template and state of every message of an order.
pub(crate) async fn states(pool: &PgPool, order_id: Uuid) -> Vec<(String, String)> {
    sqlx::query_as("select template, state from notifications where order_id = $1 order by template")
        .bind(order_id)
        .fetch_all(pool)
        .await
        .unwrap()
}

/// Type and content of what the outbox holds about an order.
pub(crate) async fn told(pool: &PgPool, order_id: Uuid) -> Vec<(String, serde_json::Value)> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("select event_type, payload from outbox where subject = $1 order by id")
            .bind(order_id.to_string())
            .fetch_all(pool)
            .await
            .unwrap();
    rows.into_iter()
        .map(|(name, payload)| (name, serde_json::from_str(&payload).unwrap()))
        .collect()
}

/// A configuration that writes into this folder.
pub(crate) fn to_folder(folder: &std::path::Path) -> MailConfig {
    MailConfig {
        smtp_url: None,
        smtp_timeout_ms: 1_000,
        mail_dir: folder.to_owned(),
        mail_from: "Tidings <shop@tidings.example>".parse().unwrap(),
    }
}

/// A configuration that sends to this server.
pub(crate) fn to_server(url: &str) -> MailConfig {
    MailConfig {
        smtp_url: Some(url.to_owned().into()),
        ..to_folder(std::path::Path::new("unused"))
    }
}
