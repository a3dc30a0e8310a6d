//! What cannot be handled is buried alone and stops nobody but its own subject.

use async_nats::HeaderMap;
use events::{Event, PaymentDeclined};
use uuid::Uuid;

use crate::common::{Overheard, World, declined, eventually, headers};

/// Rows 20, 21: a faulty event is a dead letter, and the later ones of its subject wait, in the same batch and in the
/// next; the others do not.
#[tokio::test(flavor = "multi_thread")]
async fn buries_a_faulty_event_and_parks_the_later_ones_of_its_subject() {
    let world = World::new().await;
    let (poisoned, healthy) = (Uuid::now_v7(), Uuid::now_v7());
    let dead = world.tell(poisoned, "faulty").await;
    let parked = world.tell(poisoned, "").await;
    world.tell(healthy, "").await;
    let _replica = world.replica().await.consuming();
    world.all_heard().await;
    let parked_later = world.tell(poisoned, "").await;
    world.tell(healthy, "").await;
    world.tell_as(dead, poisoned, "faulty").await;
    world.all_heard().await;

    let letters: Vec<(Uuid, String)> = sqlx::query_as("select event_id, state from dead_letters order by id")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    let expected = [(dead, "dead"), (parked, "parked"), (parked_later, "parked")];
    assert_eq!(letters, expected.map(|(event, state)| (event, state.to_owned())));
    assert_eq!((world.seen(healthy).await, world.seen(poisoned).await), (2, 0));
    assert_eq!(world.count("select count(*) from inbox").await, 2);
    assert_eq!(
        world
            .count("select count(*) from dead_letters d join inbox using (event_id)")
            .await,
        0
    );
}

/// Messages that nobody can handle, and what is said of each.
pub(crate) fn unreadable() -> Vec<(HeaderMap, Vec<u8>, String)> {
    let json = serde_json::to_vec(&declined(Uuid::now_v7(), "")).unwrap();
    let whole = || headers(Uuid::now_v7(), &declined(Uuid::now_v7(), ""));
    let without = |name: &str| {
        let whole = whole();
        let others = whole.iter().filter(|(other, _)| other.to_string() != name);
        HeaderMap::from_iter(others.map(|(name, values)| (name.clone(), values[0].clone())))
    };
    let with = |name: &str, value: &str| {
        let mut headers = whole();
        headers.insert(name, value);
        headers
    };
    let long = "a".repeat(4_000);
    let missing = ["ce-id", "ce-subject", "ce-sequence"];
    let malformed = [
        ("ce-id", "seven"),
        ("ce-subject", ""),
        ("ce-subject", "a\0b"),
        ("ce-subject", &long),
        ("ce-time", "yesterday"),
    ];
    let strange = [
        (
            "shop.payment.PaymentDeclined.v2",
            "does not know shop.payment.PaymentDeclined.v2",
        ),
        (
            "shop.order.OrderPlaced.v1",
            "OrderPlaced.v1 came on the subject shop.payment.Pay",
        ),
    ];
    let contents: [(&[u8], &str); 3] = [
        (b"{", "PaymentDeclined.v1: EOF while parsing an object"),
        (b"\xff\0", "PaymentDeclined.v1: expected value"),
        (b"", "PaymentDeclined.v1: EOF while parsing a value"),
    ];
    let mut all = vec![(HeaderMap::new(), json.clone(), "the message has no headers".to_owned())];
    all.extend(missing.map(|name| (without(name), json.clone(), format!("the header {name} is missing"))));
    all.extend(malformed.map(|(name, value)| {
        (
            with(name, value),
            json.clone(),
            format!("the header {name} is malformed"),
        )
    }));
    all.extend(strange.map(|(name, said)| (with("ce-type", name), json.clone(), said.to_owned())));
    all.extend(contents.map(|(content, said)| (whole(), content.to_vec(), said.to_owned())));
    all
}

/// Row 20: what cannot be read is buried with its reason, and whoever comes with it or after it is handled.
#[tokio::test(flavor = "multi_thread")]
async fn buries_what_cannot_be_read() {
    let world = World::new().await;
    let order = Uuid::now_v7();
    let poison = unreadable();
    for (headers, payload, _) in &poison {
        world.publish(headers.clone(), payload.clone()).await;
    }
    world.tell(order, "").await;
    let _replica = world.replica().await.consuming();
    world.all_heard().await;
    world.tell(order, "").await;
    world.all_heard().await;

    let reasons: Vec<String> = sqlx::query_scalar("select reason from dead_letters order by stream_sequence")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    assert_eq!(reasons.len(), poison.len());
    for (reason, (_, _, expected)) in reasons.iter().zip(&poison) {
        assert!(reason.contains(expected), "{reason}, not {expected}");
    }
    assert_eq!(world.seen(order).await, 2);
}

/// Row 20: an event that fails for a reason of its own is tried five times, each later than the last, and its
/// neighbours commit.
#[tokio::test(flavor = "multi_thread")]
async fn buries_only_the_culprit_after_five_delayed_attempts() {
    let world = World::new().await;
    let mut overheard = Overheard::from(&world).await;
    let mut healthy = Vec::new();
    for code in ["panics", "overdrawn", "taken"] {
        healthy.extend([Uuid::now_v7(), Uuid::now_v7()]);
        world.tell(healthy[healthy.len() - 2], "").await;
        world.tell(Uuid::now_v7(), code).await;
        world.tell(healthy[healthy.len() - 1], "").await;
    }
    let _replica = world.replica().await.consuming();
    world.all_heard().await;

    for order in healthy {
        assert_eq!(world.seen(order).await, 1);
    }
    let letters: Vec<(i64, String)> =
        sqlx::query_as("select attempts, reason from dead_letters order by stream_sequence")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    let reasons = ["the decision panicked", "ledger_seen_check", "labels_pkey"];
    assert_eq!(letters.len(), reasons.len());
    for ((attempts, reason), expected) in letters.iter().zip(reasons) {
        assert!(*attempts == 5 && reason.contains(expected), "{attempts}: {reason}");
    }
    let refusals = overheard.refusals();
    assert_eq!(refusals.len(), 3 * 4);
    assert!(refusals.iter().all(|refusal| refusal.contains("delay")), "{refusals:?}");
    assert_eq!(world.count("select count(*) from inbox").await, 6);
}

/// A dead letter that the database refuses must neither be lost nor stop the rest.
#[tokio::test(flavor = "multi_thread")]
async fn keeps_trying_to_bury_what_cannot_be_buried_and_handles_the_rest() {
    let world = World::new().await;
    let forbid = "alter table dead_letters add constraint sealed check (state <> 'dead')";
    sqlx::query(forbid).execute(&world.pool).await.unwrap();
    let mut overheard = Overheard::from(&world).await;
    let (poisoned, healthy) = (Uuid::now_v7(), Uuid::now_v7());
    world
        .publish(headers(poisoned, &declined(poisoned, "")), b"{".to_vec())
        .await;
    world.tell(healthy, "").await;
    let _replica = world.replica().await.consuming();
    eventually("it was tried more often than a faulty event", async || {
        overheard.refusals().len() > 4
    })
    .await;
    assert_eq!(world.seen(healthy).await, 1);
    let tries = overheard.refusals();
    assert!(tries.iter().all(|refusal| refusal.contains("delay")), "{tries:?}");

    let allow = "alter table dead_letters drop constraint sealed";
    sqlx::query(allow).execute(&world.pool).await.unwrap();
    world.all_heard().await;
    assert_eq!(world.count("select count(*) from dead_letters").await, 1);
}

/// Row 20: nobody is asked to handle what is larger than an event may be; the stream does not take it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_by_the_broker() {
    let world = World::new().await;
    let _replica = world.replica().await.consuming();
    for size in [300 << 10, 10 << 20] {
        let event = declined(Uuid::now_v7(), "");
        let subject = PaymentDeclined::TYPE.subject();
        let headers = headers(Uuid::now_v7(), &event);
        let sent = world
            .jetstream
            .publish_with_headers(subject, headers, vec![b'a'; size].into());
        let refused = match sent.await {
            Ok(ack) => ack.await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "{size} bytes were taken");
    }
    let order = Uuid::now_v7();
    world.tell(order, "").await;
    world.all_heard().await;
    assert_eq!(world.seen(order).await, 1);
    assert_eq!(world.count("select count(*) from dead_letters").await, 0);
}
