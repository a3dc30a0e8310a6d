//! Whatever things cost and however many are wanted, the total is their exact sum, or the order is refused.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use order::domain::{Offer, Wish};
use serde_json::json;

fuzz_target!(|lines: Vec<(i64, i64)>| {
    let wanted: Vec<_> = (0..).zip(&lines).map(|(n, (_, quantity))| json!({ "sku": format!("{n}"), "quantity": quantity })).collect();
    let body = json!({
        "customer": { "id": "0198a8a0-0000-7000-8000-000000000001", "email": "ada@example.com" },
        "lines": wanted, "payment_method": "pm_card_visa",
        "ship_to": { "name": "A", "street": "B", "city": "C", "postal_code": "D", "country": "DE" },
    });
    let Ok(wish) = serde_json::from_value::<Wish>(body) else {
        return;
    };
    if !wish.faults().is_empty() {
        return;
    }
    let offer = |sku: String, price: i64| Offer {
        sku,
        name: "Tea".into(),
        price,
        currency: "EUR".into(),
        available: 1,
        revision: 1,
    };
    let offers: BTreeMap<_, _> = (0..).zip(&lines).map(|(n, (price, _))| (format!("{n}"), offer(format!("{n}"), *price))).collect();
    // Partial sums may leave 64 bits even when the sum does not: then refusing is right too.
    let exact: i128 = lines.iter().map(|(price, quantity)| i128::from(*price) * i128::from(*quantity)).sum();
    if let Ok(priced) = wish.price(&offers) {
        assert_eq!(i128::from(priced.total), exact);
    }
});
