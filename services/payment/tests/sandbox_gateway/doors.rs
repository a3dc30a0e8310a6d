//! Who and what is not let in.

use std::fs;

use reqwest::StatusCode;

use crate::gateway::{Folder, Gateway, command, send, text};

#[tokio::test]
async fn refuses_what_it_cannot_understand() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    let unknown = send(gateway.pay("pm_card_unheard_of", "a")).await;
    assert_eq!(
        (unknown.status, text(&unknown.body, "/error/code")),
        (StatusCode::BAD_REQUEST, "resource_missing")
    );
    assert_eq!(text(&unknown.body, "/error/param"), "payment_method");

    for (amount, code) in [
        ("", "parameter_missing"),
        ("0", "parameter_invalid_integer"),
        ("-5", "parameter_invalid_integer"),
        ("12.50", "parameter_invalid_integer"),
    ] {
        let form = [
            ("amount", amount),
            ("currency", "eur"),
            ("payment_method", "pm_card_visa"),
            ("confirm", "true"),
        ];
        let refused = send(gateway.post("/v1/payment_intents", "b", &form)).await;
        assert_eq!(
            (refused.status, text(&refused.body, "/error/code")),
            (StatusCode::BAD_REQUEST, code),
            "amount {amount:?}"
        );
    }
    let nowhere = send(gateway.get("/v1/customers")).await;
    assert_eq!(
        (nowhere.status, text(&nowhere.body, "/error/type")),
        (StatusCode::NOT_FOUND, "invalid_request_error")
    );
    assert_eq!(
        send(gateway.get("/v1/payment_intents/pi_1")).await.status,
        StatusCode::NOT_FOUND
    );
    let json = send(gateway.get("/v1/payment_intents/search")).await;
    assert_eq!(
        (json.status, text(&json.body, "/error/param")),
        (StatusCode::BAD_REQUEST, "query")
    );
    assert!(gateway.charges("").await.is_empty());
}

#[tokio::test]
async fn keeps_no_trace_of_a_card_number() {
    const CARD: &str = "4242424242424242";
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    let good = [("amount", "2500"), ("currency", "eur"), ("confirm", "true")];
    for (name, value) in [
        ("payment_method", CARD),
        ("payment_method", "1111 1111 1111 1111"),
        ("card[number]", CARD),
        ("payment_method_data[card][number]", CARD),
        ("metadata[note]", "paid with 4242424242424242, thanks"),
        (CARD, "pm_card_visa"),
    ] {
        let form = [&good[..], &[(name, value)], &[("payment_method", "pm_card_visa")]].concat();
        let refused = send(gateway.post("/v1/payment_intents", "card", &form)).await;
        assert_eq!(
            (refused.status, text(&refused.body, "/error/type")),
            (StatusCode::BAD_REQUEST, "invalid_request_error"),
            "{name}"
        );
        assert!(!refused.body.to_string().contains(value));
    }
    assert_eq!(
        send(gateway.pay("pm_card_visa", CARD)).await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(fs::read_to_string(folder.book()).unwrap(), "");
    assert!(!gateway.log.lock().unwrap().contains(CARD));
}

#[tokio::test]
async fn lets_in_only_who_shows_the_key_but_anyone_may_audit() {
    let folder = Folder::new();
    let gateway = Gateway::start(&folder);
    let anonymous = gateway.http.post(format!("{}/v1/payment_intents", gateway.url));
    assert_eq!(send(anonymous).await.status, StatusCode::UNAUTHORIZED);
    let stranger = gateway
        .http
        .get(format!("{}/v1/refunds/re_1", gateway.url))
        .bearer_auth("sk_test_other");
    assert_eq!(send(stranger).await.status, StatusCode::UNAUTHORIZED);
    let auditor = gateway.http.get(format!("{}/v1/charges", gateway.url));
    assert_eq!(send(auditor).await.status, StatusCode::OK);
    let refused = command(&folder.0).env("GATEWAY_KEY", "sk_live_real").output().unwrap();
    let complaint = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(complaint.contains("GATEWAY_KEY") && !complaint.contains("sk_live_real"));
}
