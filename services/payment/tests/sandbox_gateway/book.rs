//! What the book holds, and still holds after a crash.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write;

use reqwest::StatusCode;
use tokio::task::JoinSet;

use crate::gateway::{Answer, Folder, Gateway, command, send, text};

#[tokio::test]
async fn lists_every_charge_whole_or_in_pages() {
    const CHARGES: usize = 1100;
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    for batch in 0..CHARGES / 50 {
        let calls: JoinSet<Answer> = (0..50)
            .map(|n| send(gateway.pay("pm_card_visa", &format!("order-{}", batch * 50 + n))))
            .collect();
        assert!(
            calls
                .join_all()
                .await
                .iter()
                .all(|answer| answer.status == StatusCode::OK)
        );
    }
    let all = gateway.charges("").await;
    let ids: HashSet<&str> = all.iter().map(|charge| text(charge, "/id")).collect();
    assert_eq!((all.len(), ids.len()), (CHARGES, CHARGES));

    let (mut paged, mut page) = (Vec::new(), send(gateway.get("/v1/charges?limit=400")).await.body);
    while page["has_more"] == true {
        paged.extend(page["data"].as_array().unwrap().clone());
        let after = text(paged.last().unwrap(), "/id");
        page = send(gateway.get(&format!("/v1/charges?limit=400&starting_after={after}")))
            .await
            .body;
    }
    paged.extend(page["data"].as_array().unwrap().clone());
    assert_eq!(paged, all);
    let of_one = gateway.charges("?order_id=order-7").await;
    assert_eq!((of_one.len(), text(&of_one[0], "/idempotency_key")), (1, "order-7"));
    assert!(gateway.charges("?order_id=order").await.is_empty());
    assert_eq!(
        send(gateway.get("/v1/charges?starting_after=ch_0")).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn remembers_everything_it_said_after_a_kill_and_forgets_a_torn_line() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    let paid = send(gateway.pay("pm_card_visa", "paid")).await;
    let declined = send(gateway.pay("pm_card_chargeDeclined", "poor")).await;
    let refunded = gateway.refund(text(&paid.body, "/id"), "back", "700").await;
    let hanging = tokio::spawn(gateway.pay("pm_card_timeoutAfterCharge", "lost").send());
    gateway.charged(2).await;
    let charges = gateway.charges("").await;
    gateway.kill();
    assert!(hanging.await.unwrap().is_err());

    let whole = fs::read(folder.book()).unwrap();
    let torn = &whole[..whole.iter().position(|&byte| byte == b'\n').unwrap() - 1];
    OpenOptions::new()
        .append(true)
        .open(folder.book())
        .unwrap()
        .write_all(torn)
        .unwrap();
    let gateway = Gateway::start(&folder);
    assert_eq!(fs::read(folder.book()).unwrap(), whole);
    assert_eq!(gateway.charges("").await, charges);
    assert_eq!(
        send(gateway.pay("pm_card_visa", "paid")).await,
        Answer {
            replayed: true,
            ..paid.clone()
        }
    );
    assert_eq!(
        send(gateway.pay("pm_card_chargeDeclined", "poor")).await,
        Answer {
            replayed: true,
            ..declined
        }
    );
    assert_eq!(
        gateway.refund(text(&paid.body, "/id"), "back", "700").await,
        Answer {
            replayed: true,
            ..refunded
        }
    );
    assert!(send(gateway.pay("pm_card_timeoutAfterCharge", "lost")).await.replayed);
    assert_eq!(
        gateway.refund(text(&paid.body, "/id"), "more", "1801").await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(gateway.charges("").await, charges);
}

#[tokio::test]
async fn a_kill_under_load_loses_no_answered_charge_and_doubles_none() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    let keys: Vec<String> = (0..400).map(|n| format!("order-{n}")).collect();
    let mut calls: JoinSet<_> = keys
        .iter()
        .cloned()
        .map(|key| {
            let call = gateway.pay("pm_card_visa", &key).send();
            async move {
                call.await
                    .is_ok_and(|answer| answer.status() == StatusCode::OK)
                    .then_some(key)
            }
        })
        .collect();
    let mut answered = HashSet::new();
    while answered.len() < 20 {
        answered.extend(calls.join_next().await.unwrap().unwrap());
    }
    gateway.kill();
    answered.extend(calls.join_all().await.into_iter().flatten());

    let gateway = Gateway::start(&folder);
    let kept: HashSet<String> = gateway
        .charges("")
        .await
        .iter()
        .map(|charge| text(charge, "/order_id").to_owned())
        .collect();
    assert!(answered.is_subset(&kept));
    let retries: JoinSet<Answer> = keys.iter().map(|key| send(gateway.pay("pm_card_visa", key))).collect();
    assert!(
        retries
            .join_all()
            .await
            .iter()
            .all(|answer| answer.status == StatusCode::OK)
    );
    assert_eq!(gateway.charges("").await.len(), keys.len());
}

#[tokio::test]
async fn does_not_start_on_a_book_that_is_damaged_or_taken() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    assert_eq!(send(gateway.pay("pm_card_visa", "order")).await.status, StatusCode::OK);
    let second = command(&folder.0).output().unwrap();
    assert!(!second.status.success() && String::from_utf8_lossy(&second.stderr).contains("GATEWAY_DATA"));
    gateway.kill();
    let damaged = [
        b"{\"fact\":\"nonsense\"}\n",
        fs::read(folder.book()).unwrap().as_slice(),
    ]
    .concat();
    fs::write(folder.book(), damaged).unwrap();
    let refused = command(&folder.0).output().unwrap();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("line 1 is not a fact"));
}
