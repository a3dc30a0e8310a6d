//! What `up` shows once everything runs.

use std::fmt::Write;

use trace_viewer::Viewer;
use xtask::shop::{Service, Shop};

use super::ink::Ink;

/// A customer's whole order, as one types it.
const ORDER: &str = r#"{"customer":{"id":"01940000-0000-7000-8000-000000000001","email":"ada@example.com"},"lines":[{"sku":"TEA-SENCHA","quantity":2}],"ship_to":{"name":"Ada","street":"Harbour Street 1","city":"Hamburg","postal_code":"20457","country":"DE"},"payment_method":"pm_card_visa"}"#;

/// Every address, and three lines to try.
pub(super) fn text(shop: &Shop, viewer: Option<&Viewer>, ink: Ink) -> String {
    let mut text = String::from("\n");
    let mut line = |name: &str, address: &str, more: &str| {
        let _ = writeln!(text, "  {name:<17}{address:<24}{more}");
    };
    for service in Service::ALL {
        let admin = format!("admin {}", shop.admin_url(service));
        line(service.name(), &shop.url(service), &admin);
    }
    line(
        "sandbox gateway",
        &shop.gateway_url(),
        &format!("{}/v1/charges", shop.gateway_url()),
    );
    if let Some(viewer) = viewer {
        line("trace viewer", &format!("http://{}", viewer.http_addr()), "");
    }
    for server in shop.brokers().servers() {
        line("NATS", &server.url(), &format!("monitor {}", server.monitor_url()));
    }
    line(
        "PostgreSQL",
        &format!("127.0.0.1:{}", shop.postgres().port()),
        &shop.postgres().url("shop_order"),
    );
    line("mail", &shop.mail_dir().display().to_string(), "");

    let orders = format!("{}/v1/orders", shop.url(Service::Order));
    let _ = write!(
        text,
        "\n{}\n\n  \
         ID=$(curl -sw '\\n' {orders} -H 'content-type: application/json' -d '{ORDER}' | tee /dev/stderr | \
         grep -oE '[0-9a-f-]{{36}}' | head -n 1)\n  \
         curl -sw '\\n' {orders}/$ID\n  \
         curl -sw '\\n' {orders}/$ID/timeline\n\n{}\n",
        ink.bold("Place an order, read it, see what happened to it:"),
        ink.dim("cargo shop order, status, logs, load and down work in another terminal. Ctrl-C stops everything."),
    );
    text
}
