//! What becomes of a payment, token by token and key by key.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use tokio::task::JoinSet;

use crate::gateway::{Answer, Folder, Gateway, send, text};

#[tokio::test]
async fn charges_a_good_card_and_says_so_in_its_book() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    let paid = send(gateway.pay("pm_card_visa", "order-1")).await;
    assert_eq!((paid.status, paid.replayed), (StatusCode::OK, false));
    assert_eq!(text(&paid.body, "/status"), "succeeded");
    assert_eq!(
        (&paid.body["amount_received"], text(&paid.body, "/currency")),
        (&2500.into(), "eur")
    );

    let charges = gateway.charges("").await;
    assert_eq!(charges.len(), 1);
    assert_eq!(charges[0]["id"], paid.body["latest_charge"]);
    assert_eq!(
        (text(&charges[0], "/idempotency_key"), text(&charges[0], "/order_id")),
        ("order-1", "order-1")
    );
    assert_eq!(
        (&charges[0]["amount"], &charges[0]["refunded"]),
        (&2500.into(), &0.into())
    );
    assert_eq!(text(&charges[0], "/status"), "succeeded");

    let seen = send(gateway.get(&format!("/v1/payment_intents/{}", text(&paid.body, "/id")))).await;
    assert_eq!(seen.body, paid.body);
}

#[tokio::test]
async fn a_declined_card_is_an_attempt_but_not_a_charge() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    for (token, reason) in [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_insufficientFunds", "insufficient_funds"),
    ] {
        let declined = send(gateway.pay(token, reason)).await;
        assert_eq!(declined.status, StatusCode::PAYMENT_REQUIRED);
        assert_eq!(text(&declined.body, "/error/type"), "card_error");
        assert_eq!(
            (
                text(&declined.body, "/error/code"),
                text(&declined.body, "/error/decline_code")
            ),
            ("card_declined", reason)
        );
        assert_eq!(
            send(gateway.pay(token, reason)).await,
            Answer {
                replayed: true,
                ..declined.clone()
            }
        );

        let found = gateway.search(&format!("metadata['order_id']:'{reason}'")).await;
        assert_eq!(text(&found.body, "/data/0/status"), "requires_payment_method");
        assert_eq!(
            found.body["data"][0]["id"],
            declined.body["error"]["payment_intent"]["id"]
        );
    }
    assert!(gateway.charges("").await.is_empty());
}

#[tokio::test]
async fn a_slow_card_holds_its_key_until_it_is_charged() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    let began = Instant::now();
    let (one, other) = tokio::join!(
        send(gateway.pay("pm_card_slow", "slow")),
        send(gateway.pay("pm_card_slow", "slow"))
    );
    assert!(began.elapsed().as_secs() >= 3);
    let (paid, refused) = if one.status == StatusCode::OK {
        (one, other)
    } else {
        (other, one)
    };
    assert_eq!((paid.status, refused.status), (StatusCode::OK, StatusCode::CONFLICT));
    assert_eq!(text(&refused.body, "/error/code"), "idempotency_key_in_use");
    assert_eq!(
        send(gateway.pay("pm_card_slow", "slow")).await,
        Answer { replayed: true, ..paid }
    );
    assert_eq!(gateway.charges("").await.len(), 1);
}

#[tokio::test]
async fn a_slow_card_is_charged_even_if_the_caller_hangs_up() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    let impatient = gateway.pay("pm_card_slow", "slow").timeout(Duration::from_secs(1));
    assert!(impatient.send().await.unwrap_err().is_timeout());
    assert!(gateway.charges("").await.is_empty());
    gateway.charged(1).await;
    assert!(send(gateway.pay("pm_card_slow", "slow")).await.replayed);
}

#[tokio::test]
async fn a_lost_answer_is_replayed_to_the_retry_while_the_first_call_hangs() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    let hanging = tokio::spawn(gateway.pay("pm_card_timeoutAfterCharge", "lost").send());
    gateway.charged(1).await;
    let retried = send(gateway.pay("pm_card_timeoutAfterCharge", "lost")).await;
    assert_eq!((retried.status, retried.replayed), (StatusCode::OK, true));
    assert_eq!(text(&retried.body, "/status"), "succeeded");
    assert_eq!(
        gateway.search("metadata[\"order_id\"]:\"lost\"").await.body["data"][0],
        retried.body
    );
    assert_eq!(gateway.charges("").await.len(), 1);
    assert!(!hanging.is_finished());
}

#[tokio::test]
async fn a_flaky_card_is_charged_at_the_third_try_only() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    for _ in 0..2 {
        let failed = send(gateway.pay("pm_card_flaky", "flaky")).await;
        assert_eq!(
            (failed.status, failed.replayed),
            (StatusCode::INTERNAL_SERVER_ERROR, false)
        );
        assert_eq!(text(&failed.body, "/error/type"), "api_error");
        assert!(gateway.charges("").await.is_empty());
    }
    let paid = send(gateway.pay("pm_card_flaky", "flaky")).await;
    assert_eq!((paid.status, paid.replayed), (StatusCode::OK, false));
    assert_eq!(
        send(gateway.pay("pm_card_flaky", "flaky")).await,
        Answer { replayed: true, ..paid }
    );
    assert_eq!(gateway.charges("").await.len(), 1);
}

#[tokio::test]
async fn an_outage_leaves_the_key_free() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    for _ in 0..3 {
        assert_eq!(
            send(gateway.pay("pm_card_down", "down")).await.status,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
    assert_eq!(send(gateway.pay("pm_card_visa", "down")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_key_stands_for_one_request_only() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    let paid = send(gateway.pay("pm_card_visa", "same")).await;
    let form = [
        ("confirm", "true"),
        ("metadata[order_id]", "same"),
        ("payment_method", "pm_card_visa"),
        ("currency", "EUR"),
        ("amount", "2500"),
    ];
    assert!(
        send(gateway.post("/v1/payment_intents", "same", &form)).await.replayed,
        "the order of parameters does not matter"
    );
    let other = send(gateway.pay("pm_card_chargeDeclined", "same")).await;
    assert_eq!(
        (other.status, text(&other.body, "/error/type")),
        (StatusCode::BAD_REQUEST, "idempotency_error")
    );
    let elsewhere = gateway.refund(text(&paid.body, "/id"), "same", "100").await;
    assert_eq!(text(&elsewhere.body, "/error/type"), "idempotency_error");
    assert_eq!(gateway.charges("").await.len(), 1);
}

#[tokio::test]
async fn fifty_parallel_calls_under_one_key_charge_once() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    let calls: JoinSet<Answer> = (0..50).map(|_| send(gateway.pay("pm_card_visa", "once"))).collect();
    let answers = calls.join_all().await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.status == StatusCode::OK && answer.body == answers[0].body)
    );
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert_eq!(gateway.charges("").await.len(), 1);
}

#[tokio::test]
async fn cancels_only_what_took_no_money() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    let cancel =
        async |intent: &str, key| send(gateway.post(&format!("/v1/payment_intents/{intent}/cancel"), key, &[])).await;
    let paid = send(gateway.pay("pm_card_visa", "paid")).await;
    let refused = cancel(text(&paid.body, "/id"), "cancel-paid").await;
    assert_eq!(
        (refused.status, text(&refused.body, "/error/code")),
        (StatusCode::BAD_REQUEST, "payment_intent_unexpected_state")
    );

    let declined = send(gateway.pay("pm_card_chargeDeclined", "poor")).await;
    let intent = text(&declined.body, "/error/payment_intent/id");
    let canceled = cancel(intent, "cancel-poor").await;
    assert_eq!(
        (canceled.status, text(&canceled.body, "/status")),
        (StatusCode::OK, "canceled")
    );
    assert!(cancel(intent, "cancel-poor").await.replayed);
    assert_eq!(cancel(intent, "again").await.status, StatusCode::BAD_REQUEST);
}
