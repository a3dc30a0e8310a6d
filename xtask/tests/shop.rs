//! A whole shop in a temporary folder: its handles do what they say, and nothing of it is left.
#![cfg(feature = "shop")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::shop::{Service, Shop, ShopOptions};

/// An acknowledgement that died with the broker is missed for thirty seconds.
const SOON: Duration = Duration::from_secs(60);

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(2))
        .build()
        .unwrap()
}

async fn get(url: String) -> Option<Value> {
    client()
        .get(url)
        .send()
        .await
        .ok()?
        .error_for_status()
        .ok()?
        .json()
        .await
        .ok()
}

/// Places an order, and returns its address.
async fn order(shop: &Shop) -> String {
    let order = json!({
        "customer": { "id": "01940000-0000-7000-8000-000000000001", "email": "ada@example.com" },
        "lines": [{ "sku": "TEA-SENCHA", "quantity": 2 }],
        "ship_to": { "name": "Ada", "street": "1", "city": "Hamburg", "postal_code": "20457", "country": "DE" },
        "payment_method": "pm_card_visa",
    });
    let orders = format!("{}/v1/orders", shop.url(Service::Order));
    let placed = client().post(&orders).json(&order).send().await.unwrap();
    assert_eq!(placed.status(), 201);
    let placed: Value = placed.json().await.unwrap();
    format!("{orders}/{}", placed["id"].as_str().unwrap())
}

async fn completed(order: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let state = get(order.to_owned()).await.map(|order| order["state"].clone());
        if state == Some(json!("COMPLETED")) {
            return;
        }
        assert!(Instant::now() < deadline, "{order} is {state:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_sells_whatever_is_killed_paused_or_started_again() {
    let mut options = ShopOptions::default();
    options
        .env
        .push((Service::Warehouse, "WAREHOUSE_PICK_MS".into(), "0".into()));
    let shop = Shop::start(options).await.unwrap();
    let products = get(format!("{}/v1/products?limit=100", shop.url(Service::Inventory)))
        .await
        .unwrap();
    assert_eq!(products["items"].as_array().unwrap().len(), 20);
    assert!(
        products["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|product| product["on_hand"] == 1_000)
    );
    completed(&order(&shop).await).await;

    // Without payment, its gateway and the broker an order is taken all the same, and completed afterwards.
    let first = shop.pid(Service::Payment).unwrap();
    shop.kill(Service::Payment).await.unwrap();
    shop.kill_gateway().await.unwrap();
    shop.nats().kill().await.unwrap();
    assert_eq!((shop.pid(Service::Payment), shop.gateway_pid()), (None, None));
    let meanwhile = order(&shop).await;
    shop.nats().restart().await.unwrap();
    shop.start_gateway().await.unwrap();
    shop.start_service(Service::Payment).await.unwrap();
    assert_ne!(shop.pid(Service::Payment).unwrap(), first);
    completed(&meanwhile).await;

    let readiness = format!("{}/readyz", shop.admin_url(Service::Order));
    shop.pause(Service::Order).await.unwrap();
    assert_eq!(get(readiness.clone()).await, None);
    shop.resume(Service::Order).await.unwrap();
    assert_eq!(get(readiness).await.unwrap()["status"], "ready");

    shop.drained(SOON).await.unwrap();
    assert!(std::fs::read_dir(shop.mail_dir()).unwrap().count() >= 2);

    shop.stop_service(Service::Email).await.unwrap();
    shop.postgres().kill().await.unwrap();
    assert_eq!(shop.revive().await.unwrap(), ["PostgreSQL", "email"]);
    shop.restart(Service::Analytics).await.unwrap();
    nothing_is_left_after(shop).await;
}

async fn nothing_is_left_after(shop: Shop) {
    let home = shop.mail_dir().parent().unwrap().to_owned();
    let services = Service::ALL.map(|service| shop.pid(service));
    let others = [shop.gateway_pid(), shop.nats().pid(), shop.postgres().pid()];
    let all: Vec<u32> = services.into_iter().chain(others).map(Option::unwrap).collect();
    assert!(home.exists() && all.iter().all(|pid| is_alive(*pid)));

    shop.shutdown().await.unwrap();
    assert!(!home.exists());
    assert_eq!(all.iter().find(|pid| is_alive(**pid)), None);
}
