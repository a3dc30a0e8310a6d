//! Whatever a body holds, an order is refused with the fields that are wrong, or keeps every limit.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use order::domain::{Offer, Wish};

fuzz_target!(|body: &[u8]| {
    let Ok(wish) = serde_json::from_slice::<Wish>(body) else {
        return;
    };
    let faults = wish.faults();
    assert!(faults.iter().all(|fault| !fault.field.is_empty() && !fault.reason.is_empty()));
    if faults.is_empty() {
        assert!((1..=100).contains(&wish.lines.len()));
        assert!(wish.lines.iter().all(|line| (1..=1_000).contains(&line.quantity)));
    }
    let offer = |sku: &String| Offer {
        sku: sku.clone(),
        name: "Tea".into(),
        price: i64::MAX / 7,
        currency: "EUR".into(),
        available: 1,
        revision: 1,
    };
    let offers: BTreeMap<_, _> = wish.lines.iter().map(|line| (line.sku.clone(), offer(&line.sku))).collect();
    let _ = wish.price(&offers);
});
