#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

fn article(on_hand: i64) -> Article {
    let product = Product {
        sku: "tea".into(),
        name: "Tea".into(),
        price: 500,
        currency: "EUR".into(),
    };
    Article {
        on_hand,
        available_before: Some(on_hand),
        ..Article::new(product)
    }
}

fn stock(on_hand: i64) -> Stock {
    Stock {
        articles: BTreeMap::from([("tea".into(), article(on_hand))]),
        ..Stock::default()
    }
}

fn tea(quantity: i32) -> Vec<Line> {
    vec![Line {
        sku: "tea".into(),
        name: "Tea".into(),
        quantity,
        unit_price: 500,
    }]
}

fn level(stock: &Stock) -> (i64, i64) {
    let article = &stock.articles["tea"];
    (article.on_hand, article.reserved)
}

#[test]
fn holds_all_lines_or_none() {
    let mut stock = stock(3);
    let two_lines = [tea(2), tea(2)].concat();
    let expected = vec![Shortage {
        sku: "tea".into(),
        requested: 4,
        available: 3,
    }];
    assert_eq!(stock.hold(Uuid::now_v7(), &two_lines), Hold::Short(expected));
    assert_eq!(level(&stock), (3, 0));
    assert!(matches!(stock.hold(Uuid::now_v7(), &tea(3)), Hold::Held(_)));
    assert_eq!(level(&stock), (3, 3));
}

#[test]
fn an_order_undone_before_it_was_placed_holds_nothing() {
    let (mut stock, order) = (stock(3), Uuid::now_v7());
    assert_eq!(stock.release(order), Some(None));
    assert_eq!(stock.hold(order, &tea(1)), Hold::KnownAlready);
    assert_eq!(level(&stock), (3, 0));
}

#[test]
fn releasing_twice_is_said_once() {
    let (mut stock, order) = (stock(3), Uuid::now_v7());
    stock.hold(order, &tea(2));
    assert!(matches!(stock.release(order), Some(Some(_))));
    assert_eq!(stock.release(order), None);
    assert_eq!(level(&stock), (3, 0));
}

#[test]
fn shipped_pieces_are_sold_once() {
    let (mut stock, order) = (stock(3), Uuid::now_v7());
    stock.hold(order, &tea(2));
    assert_eq!(stock.commit(order).unwrap(), Some(tea(2)));
    assert_eq!(stock.commit(order).unwrap(), None);
    assert_eq!((level(&stock), stock.movements.len()), ((1, 0), 1));
}

#[test]
fn a_parcel_without_a_reservation_is_a_fault_that_changes_nothing() {
    let mut stock = stock(3);
    assert!(stock.commit(Uuid::now_v7()).is_err());
    let order = Uuid::now_v7();
    stock.release(order);
    assert!(stock.commit(order).is_err());
    assert_eq!((level(&stock), stock.movements.len()), ((3, 0), 0));
}

#[test]
fn held_pieces_cannot_be_taken_away_by_hand() {
    let mut stock = stock(3);
    stock.hold(Uuid::now_v7(), &tea(2));
    assert_eq!(
        stock.adjust("tea", -2, "broken").err(),
        Some(Refusal::TooFew { available: 1 })
    );
    assert_eq!(
        stock.adjust("tea", i64::MAX, "typo").err(),
        Some(Refusal::TooFew { available: 1 })
    );
    assert_eq!(stock.adjust("tea", -1, "broken").unwrap().available(), 0);
}

proptest! {
    /// Whatever is asked in whatever order, every piece is on hand or sold, and never held twice.
    #[test]
    fn pieces_are_conserved(wishes in prop::collection::vec((0..6usize, 0..3u8, 1..5i32), 0..60)) {
        let orders: Vec<Uuid> = (0..6).map(|_| Uuid::now_v7()).collect();
        let mut stock = stock(10);
        for (order, wish, quantity) in wishes {
            match wish {
                0 => drop(stock.hold(orders[order], &tea(quantity))),
                1 => drop(stock.release(orders[order])),
                _ => drop(stock.commit(orders[order])),
            }
            let (on_hand, reserved) = level(&stock);
            let held: i64 = stock.reservations.values()
                .filter(|r| r.state == ReservationState::Held)
                .flat_map(|r| &r.lines).map(|line| i64::from(line.quantity)).sum();
            let sold: i64 = -stock.movements.iter().map(|movement| movement.delta).sum::<i64>();
            prop_assert_eq!(held, reserved);
            prop_assert_eq!(on_hand + sold, 10);
            prop_assert!(0 <= reserved && reserved <= on_hand);
        }
    }

    /// The order is placed and undone: whichever is heard first, and however often, nothing stays held.
    #[test]
    fn any_order_of_placing_and_undoing_ends_the_same(mut heard in Just(vec![0, 0, 1, 1, 1]).prop_shuffle()) {
        let (mut stock, order) = (stock(10), Uuid::now_v7());
        heard.drain(..).for_each(|wish| if wish == 0 {
            stock.hold(order, &tea(2));
        } else {
            stock.release(order);
        });
        prop_assert_eq!(level(&stock), (10, 0));
        prop_assert_eq!(stock.reservations[&order].state, ReservationState::Released);
    }
}
