#![allow(clippy::unwrap_used)]

use events::{DAMAGED, ReturnedLine};
use proptest::prelude::*;

use super::*;
use crate::domain::{Hold, Product};

/// Ten packets of tea, three of which are held for an order.
fn held() -> (Stock, Uuid) {
    let (mut stock, order) = (Stock::default(), Uuid::now_v7());
    let product = Product {
        sku: "tea".into(),
        name: "Tea".into(),
        price: 300,
        currency: "EUR".into(),
    };
    stock.describe(product, |_| true).unwrap();
    stock.adjust("tea", 10, "delivery").unwrap();
    let line = Line {
        sku: "tea".into(),
        name: "Tea".into(),
        quantity: 3,
        unit_price: 250,
    };
    assert!(matches!(stock.hold(order, &[line]), Hold::Held(_)));
    (stock, order)
}

fn returned(order_id: Uuid, lines: &[(i32, &str)]) -> ReturnReceived {
    let lines = lines.iter().map(|(quantity, condition)| ReturnedLine {
        sku: "tea".into(),
        quantity: *quantity,
        condition: (*condition).into(),
    });
    ReturnReceived {
        order_id,
        return_id: Uuid::now_v7(),
        lines: lines.collect(),
        refundable: 0,
    }
}

fn level(stock: &Stock) -> (i64, i64) {
    (stock.articles["tea"].on_hand, stock.articles["tea"].reserved)
}

#[test]
fn only_what_can_be_sold_again_is_on_the_shelf_as_it_was_sold() {
    let (mut stock, order) = held();
    stock.commit(order).unwrap();
    let back = stock
        .restock(&returned(order, &[(1, RESELLABLE), (1, DAMAGED), (1, RESELLABLE)]))
        .unwrap()
        .unwrap();
    assert_eq!((back[0].quantity, back[0].unit_price, back.len()), (2, 250, 1));
    assert_eq!(level(&stock), (9, 0));
    assert_eq!(
        stock.restock(&returned(order, &[(1, DAMAGED)])),
        Ok(Some(Vec::new())),
        "nothing is an answer"
    );
    assert_eq!(level(&stock), (9, 0));
}

#[test]
fn what_was_never_sent_does_not_come_back() {
    let (mut stock, order) = held();
    let strange = returned(Uuid::now_v7(), &[(1, RESELLABLE)]);
    assert!(stock.restock(&strange).is_err());
    let mut other = returned(order, &[(1, RESELLABLE)]);
    other.lines[0].sku = "pot".into();
    assert!(stock.restock(&other).is_err());
    stock.release(order);
    assert!(stock.restock(&returned(order, &[(1, RESELLABLE)])).is_err());
    assert_eq!(level(&stock), (10, 0));
}

proptest! {
    /// The sale and two returns, heard twice each and in any order.
    #[test]
    fn returns_and_the_sale_end_the_same_whichever_is_heard_first(
        heard in Just(vec![0, 0, 1, 1, 2, 2]).prop_shuffle(),
    ) {
        let (mut stock, order) = held();
        let returns = [returned(order, &[(1, RESELLABLE), (1, DAMAGED)]), returned(order, &[(1, RESELLABLE)])];
        let mut told = [0; 3];
        for which in heard {
            let event = match which {
                2 => stock.commit(order).unwrap(),
                which => stock.restock(&returns[which]).unwrap(),
            };
            told[which] += usize::from(event.is_some());
            let (on_hand, reserved) = level(&stock);
            prop_assert!((0..=on_hand).contains(&reserved));
        }
        prop_assert_eq!((told, level(&stock)), ([1, 1, 1], (9, 0)));
        let moved: i64 = stock.movements.iter().map(|movement| movement.delta).sum();
        prop_assert_eq!(moved, 9);
    }
}
