//! What the customers want: the n-th order of a seed is always the same.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use uuid::Uuid;

/// An article of which there is never enough.
pub(super) const SCARCE: &str = "CUP-LAST-OF-ITS-KIND";
/// Articles of which there is enough.
pub(super) const SKUS: [&str; 6] = [
    "TEA-ASSAM",
    "TEA-DARJEELING",
    "TEA-SENCHA",
    "TEA-JASMINE",
    "MUG-BLUE",
    "TIN-100",
];
/// Pieces of one article in one order at most.
pub(super) const MOST_PIECES: i64 = 3;

/// One order and how its customer behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// The idempotency key: every repetition carries it.
    pub(super) key: String,
    customer: Uuid,
    lines: Vec<(&'static str, i64)>,
    payment_method: &'static str,
    country: &'static str,
    /// Sent twice at the same moment.
    pub(super) twice: bool,
    /// When the customer thinks better of it, from the acceptance.
    pub(super) cancel_after: Option<Duration>,
    /// When the customer sends it again for want of a memory.
    pub(super) again_after: Option<Duration>,
    /// When the customer sends the first line back, from the acceptance; too early is refused.
    pub(super) return_after: Option<Duration>,
}

impl Wish {
    /// The n-th wish of a seed.
    pub(super) fn of(seed: u64, number: usize) -> Self {
        let key = format!("chaos-{seed}-{number}");
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes());
        let mut rng = Rng::with_seed(id.as_u64_pair().0);
        let (payment_method, country) = match rng.u32(..100) {
            0..60 => ("pm_card_visa", "DE"),
            60..70 => ("pm_card_chargeDeclined", "DE"),
            70..74 => ("pm_card_insufficientFunds", "DE"),
            74..82 => ("pm_card_visa", "XX"),
            82..88 => ("pm_card_timeoutAfterCharge", "DE"),
            88..95 => ("pm_card_flaky", "DE"),
            95..98 => ("pm_card_slow", "DE"),
            _ => ("pm_card_down", "DE"),
        };
        let mut skus = SKUS;
        rng.shuffle(&mut skus);
        let mut lines: Vec<_> = skus[..rng.usize(1..=3)]
            .iter()
            .map(|sku| (*sku, rng.i64(1..=MOST_PIECES)))
            .collect();
        if rng.u32(..100) < 5 {
            lines.push((SCARCE, 1));
        }
        let mut sometimes = |percent, longest| {
            let comes = rng.u32(..100) < percent;
            let after = Duration::from_millis(rng.u64(..longest));
            comes.then_some(after)
        };
        Self {
            customer: id,
            lines,
            payment_method,
            country,
            twice: sometimes(15, 1).is_some(),
            cancel_after: sometimes(20, 3_000),
            again_after: sometimes(10, 15_000),
            return_after: sometimes(20, 15_000),
            key,
        }
    }

    /// One piece of the first line comes back.
    pub(super) fn returned(&self) -> Value {
        let sku = self.lines.first().map(|(sku, _)| sku);
        json!({ "lines": [{ "sku": sku, "quantity": 1 }], "reason": "chaos" })
    }

    pub(super) fn body(&self) -> Value {
        let lines: Vec<_> = self
            .lines
            .iter()
            .map(|(sku, quantity)| json!({ "sku": sku, "quantity": quantity }))
            .collect();
        json!({
            "customer": { "id": self.customer, "email": "chaos@example.com" },
            "lines": lines,
            "ship_to": {
                "name": "Chaos", "street": "Harbour Street 1", "city": "Hamburg", "postal_code": "20457",
                "country": self.country,
            },
            "payment_method": self.payment_method,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_wants_the_same_things_and_another_one_does_not() {
        let wishes = |seed| (0..50).map(|number| Wish::of(seed, number)).collect::<Vec<_>>();
        assert_eq!(wishes(1), wishes(1));
        let differ = wishes(1)
            .iter()
            .zip(wishes(2))
            .filter(|(one, two)| one.body() != two.body())
            .count();
        assert_eq!(differ, 50);
    }

    #[test]
    fn every_kind_of_customer_comes() {
        let wishes: Vec<_> = (0..1_000).map(|number| Wish::of(1, number)).collect();
        let some = |is: fn(&Wish) -> bool| wishes.iter().filter(|wish| is(wish)).count() > 10;
        assert!(some(|wish| wish.twice) && some(|wish| wish.cancel_after.is_some()));
        assert!(some(|wish| wish.return_after.is_some()));
        assert!(some(|wish| wish.again_after.is_some()) && some(|wish| wish.country == "XX"));
        assert!(some(|wish| wish.lines.iter().any(|(sku, _)| *sku == SCARCE)));
        for method in ["visa", "chargeDeclined", "timeoutAfterCharge", "flaky", "slow", "down"] {
            let of_it = wishes
                .iter()
                .filter(|wish| wish.payment_method.ends_with(method))
                .count();
            assert!(of_it > 5, "{method}");
        }
    }
}
