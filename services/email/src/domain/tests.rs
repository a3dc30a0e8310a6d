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
        3 => mailroom.notify(order_id, Content::OrderCancelled { reason, refunded }),
        // Two returns, each with messages of its own.
        event => {
            let (return_id, lines) = (returned(order_id, event % 2), Vec::new());
            let content = match event {
                4 | 5 => Content::OrderReturnRequested { return_id, lines },
                6 | 7 => Content::OrderRefunded { return_id, amount: 1 },
                _ => Content::ReturnRejected { return_id },
            };
            mailroom.notify(order_id, content);
        }
    }
}

fn returned(order_id: Uuid, which: u8) -> Uuid {
    derive_id(order_id, &format!("return {which}"))
}

/// Every message that the ten events ask for.
fn all(order_id: Uuid) -> Vec<Topic> {
    let about = |template| {
        [0, 1].map(|which| Topic {
            template,
            return_id: Some(returned(order_id, which)),
        })
    };
    let mut all: Vec<Topic> = Template::ALL[..3].iter().copied().map(Topic::from).collect();
    all.extend(Template::ALL[3..].iter().copied().flat_map(about));
    all.sort();
    all
}

fn states(mailroom: &Mailroom, order_id: Uuid) -> Vec<(Topic, State)> {
    let notifications = &mailroom.orders[&order_id].notifications;
    notifications.iter().map(|(topic, one)| (*topic, one.state)).collect()
}

proptest! {
    #[test]
    fn whatever_the_order_and_however_often_each_message_is_asked_for_once(
        heard in Just((0..10_u8).chain(0..10).collect::<Vec<_>>()).prop_shuffle(),
        sent_after in 0..20_usize,
    ) {
        let (mut mailroom, order_id) = (Mailroom::default(), Uuid::now_v7());
        let mut told = 0;
        for (position, event) in heard.into_iter().enumerate() {
            hear(&mut mailroom, order_id, event);
            if position >= sent_after {
                let all = all(order_id).into_iter();
                told += all.filter_map(|topic| mailroom.settle(order_id, topic, DELIVERED)).count();
            }
        }
        let sent: Vec<_> = all(order_id).into_iter().map(|topic| (topic, State::Sent)).collect();
        prop_assert_eq!(told, sent.len());
        prop_assert_eq!(states(&mailroom, order_id), sent);
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
    assert_eq!(
        states(&mailroom, order_id),
        [(Template::OrderShipped.into(), State::Waiting)]
    );
    assert_eq!(
        mailroom.settle(order_id, Template::OrderShipped.into(), DELIVERED),
        None
    );
    hear(&mut mailroom, order_id, 0);
    assert_eq!(
        states(&mailroom, order_id),
        [(Template::OrderShipped.into(), State::Pending)]
    );
}

#[test]
fn what_is_postponed_is_told_only_when_it_is_final() {
    let (mut mailroom, order_id) = (Mailroom::default(), Uuid::now_v7());
    hear(&mut mailroom, order_id, 0);
    hear(&mut mailroom, order_id, 1);
    let topic = Template::OrderConfirmed.into();
    let later = Outcome::Postponed(Duration::from_secs(3));
    assert_eq!(mailroom.settle(order_id, topic, later), None);
    let notification = &mailroom.orders[&order_id].notifications[&topic];
    assert_eq!(
        (notification.state, notification.delay),
        (State::Pending, Duration::from_secs(3))
    );
    let failed = mailroom.settle(order_id, topic, Outcome::Refused).unwrap();
    assert_eq!(failed.right().unwrap().template, "order_confirmed");
    assert_eq!(
        mailroom.settle(order_id, topic, DELIVERED),
        None,
        "what failed stays failed"
    );
}
