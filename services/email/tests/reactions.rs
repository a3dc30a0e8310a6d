//! What the email service remembers of the events it hears, in a real database.
#![allow(clippy::unwrap_used)]

mod support;

use email::MIGRATIONS;
use email::domain::Mailroom;
use events::Event;
use messaging::{Db, Decisions, Envelope, Journal, Touched, WorkingSet};
use support::Heard::{Cancelled, Confirmed, Placed, Shipped};
use support::{hear, states, story, told};
use telemetry::TraceContext;
use uuid::Uuid;

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(template, state)| ((*template).to_owned(), (*state).to_owned()))
        .collect()
}

#[tokio::test]
async fn every_step_that_concerns_the_customer_asks_for_its_message_once() {
    let pool = testbed::database(&MIGRATIONS).await;
    let decisions = Decisions::start(Db::new(pool.clone()));
    let (happy, declined) = (story("ada@example.org"), story("bob@example.org"));
    hear(&decisions, &happy, &[Placed]).await;
    assert_eq!(
        states(&pool, happy.order_id).await,
        [],
        "an order that was only placed gets no message"
    );
    hear(&decisions, &happy, &[Confirmed, Shipped, Confirmed, Placed, Shipped]).await;
    hear(&decisions, &declined, &[Placed, Cancelled, Cancelled]).await;
    let expected = pairs(&[("order_confirmed", "PENDING"), ("order_shipped", "PENDING")]);
    assert_eq!(states(&pool, happy.order_id).await, expected);
    assert_eq!(
        states(&pool, declined.order_id).await,
        pairs(&[("order_cancelled", "PENDING")])
    );
    assert_eq!(
        told(&pool, happy.order_id).await,
        [],
        "nothing is told before it was sent"
    );
}

#[tokio::test]
async fn a_parcel_announced_before_its_order_waits_for_the_address() {
    let pool = testbed::database(&MIGRATIONS).await;
    let decisions = Decisions::start(Db::new(pool.clone()));
    let story = story("ada@example.org");
    hear(&decisions, &story, &[Shipped]).await;
    assert_eq!(
        states(&pool, story.order_id).await,
        pairs(&[("order_shipped", "WAITING")])
    );
    hear(&decisions, &story, &[Confirmed, Placed]).await;
    let expected = pairs(&[("order_confirmed", "PENDING"), ("order_shipped", "PENDING")]);
    assert_eq!(states(&pool, story.order_id).await, expected);
}

/// Two replicas hear `OrderPlaced` and `OrderShipped` of the same order at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_stranded_when_two_replicas_hear_of_an_order_at_once() {
    let pool = testbed::database(&MIGRATIONS).await;
    let replicas = [(); 2].map(|()| Decisions::start(Db::new(pool.clone())));
    for _ in 0..50 {
        let story = story("ada@example.org");
        tokio::join!(
            hear(&replicas[0], &story, &[Placed]),
            hear(&replicas[1], &story, &[Shipped])
        );
        assert_eq!(
            states(&pool, story.order_id).await,
            pairs(&[("order_shipped", "PENDING")])
        );
    }
}

#[tokio::test]
async fn a_message_keeps_the_trace_of_the_event_that_asked_for_it() {
    let pool = testbed::database(&MIGRATIONS).await;
    let story = story("ada@example.org");
    let parent = |digit: &str| format!("00-{}-b7ad6b7169203331-01", digit.repeat(32));
    let envelope = |name: &str, traceparent: &str| Envelope {
        event_id: Uuid::now_v7(),
        event_type: name.to_owned(),
        subject: story.order_id.to_string(),
        sequence: 1,
        correlation_id: story.order_id.to_string(),
        causation_id: None,
        occurred_at: chrono::Utc::now(),
        trace: TraceContext::parse(traceparent, Some("vendor=1")).unwrap(),
    };
    let heard = [
        (Shipped, envelope(&events::OrderShipped::TYPE.to_string(), &parent("a"))),
        (Placed, envelope(&events::OrderPlaced::TYPE.to_string(), &parent("b"))),
    ];
    for (event, envelope) in heard {
        let mut tx = messaging::Db::new(pool.clone()).begin().await.unwrap();
        let mut mailroom = Mailroom::load(&mut tx, &Touched::order(story.order_id)).await.unwrap();
        story.tell(&mut mailroom, event);
        let journal = Journal {
            heard: vec![envelope],
            told: Vec::new(),
        };
        mailroom.save(&mut tx, &journal).await.unwrap();
        tx.commit().await.unwrap();
    }
    let kept: (String, String) = sqlx::query_as("select traceparent, tracestate from notifications")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(kept, (parent("a"), "vendor=1".to_owned()));
}

#[test]
fn email_hears_what_it_needs_and_answers_nothing_at_once() {
    let reactions = email::reactions::reactions();
    let wiring: Vec<String> = reactions
        .wiring()
        .map(|(event, emits)| format!("{event} -> {}", emits.len()))
        .collect();
    let expected = [
        "order.OrderCancelled",
        "order.OrderConfirmed",
        "order.OrderPlaced",
        "order.OrderRefunded",
        "order.OrderReturnRequested",
        "warehouse.OrderShipped",
        "warehouse.ReturnRejected",
    ];
    assert_eq!(wiring, expected.map(|name| format!("shop.{name}.v1 -> 0")));
}
