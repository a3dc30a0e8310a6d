//! The rules of stock: what is held is never sold twice, and never more than there is.

use std::collections::BTreeMap;

use events::{Draft, Fault, Line, ProductListed, ProductPriceChanged, Shortage, StockLevelChanged, derive_id};
use uuid::Uuid;

/// The articles and reservations that a batch touches.
#[derive(Debug, Default)]
pub struct Stock {
    /// Articles by sku.
    pub articles: BTreeMap<String, Article>,
    /// Reservations by order.
    pub reservations: BTreeMap<Uuid, Reservation>,
    /// Changes of stock on hand that this batch makes.
    pub movements: Vec<Movement>,
}

/// An article of the catalogue and how much of it there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Article {
    /// What it is called and what it costs.
    pub product: Product,
    /// Pieces in the house.
    pub on_hand: i64,
    /// Of those, pieces held for orders.
    pub reserved: i64,
    /// Version of the description.
    pub version: i64,
    /// Version of anything; grows with every event, so that no two carry the same.
    pub revision: i64,
    /// The revision that is in the database; 0 before it was first saved.
    pub saved_revision: i64,
    /// What could be ordered when the batch began; none for a new article.
    pub available_before: Option<i64>,
    /// Whether this batch changed it.
    pub changed: bool,
}

/// The description of an article.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// The article.
    pub sku: String,
    /// What it is called.
    pub name: String,
    /// Price of one piece in minor units.
    pub price: i64,
    /// Currency of the price.
    pub currency: String,
}

/// What is held for an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Its id.
    pub reservation_id: Uuid,
    /// Where it stands.
    pub state: ReservationState,
    /// What it is about; empty when it was undone before it was done.
    pub lines: Vec<Line>,
    /// Counts its changes; 0 before it was first saved.
    pub version: i64,
    /// Whether this batch changed it.
    pub changed: bool,
}

/// Where a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationState {
    /// The pieces are set aside.
    Held,
    /// There was too little.
    Rejected,
    /// The pieces are free again, or never were held.
    Released,
    /// The pieces left the house.
    Committed,
}

/// A change of stock on hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// The article.
    pub sku: String,
    /// By how many pieces.
    pub delta: i64,
    /// Why, `SALE` or the operator's words.
    pub reason: String,
    /// The order that was shipped.
    pub order_id: Option<Uuid>,
}

/// How a wish to hold an order's lines ends.
#[derive(Debug, PartialEq, Eq)]
pub enum Hold {
    /// All of them are held under this reservation.
    Held(Uuid),
    /// None of them is.
    Short(Vec<Shortage>),
    /// The order was held, refused or undone before.
    KnownAlready,
}

impl Article {
    /// Pieces that can be ordered.
    pub fn available(&self) -> i64 {
        self.on_hand - self.reserved
    }
}

impl Stock {
    /// Holds every line or none.
    pub fn hold(&mut self, order_id: Uuid, lines: &[Line]) -> Hold {
        if self.reservations.contains_key(&order_id) {
            return Hold::KnownAlready;
        }
        let shortages = self.shortages(lines);
        let state = if shortages.is_empty() {
            ReservationState::Held
        } else {
            ReservationState::Rejected
        };
        let reservation_id = derive_id(order_id, "reservation");
        let reservation = Reservation {
            reservation_id,
            state,
            lines: lines.to_vec(),
            version: 0,
            changed: true,
        };
        self.reservations.insert(order_id, reservation);
        if !shortages.is_empty() {
            return Hold::Short(shortages);
        }
        for line in lines {
            self.change(&line.sku, |article| article.reserved += i64::from(line.quantity));
        }
        Hold::Held(reservation_id)
    }

    /// Frees what is held; the answer is the reservation's id if pieces were held, and none at all
    /// when there is nothing to say (it was said before, or the goods are gone).
    pub fn release(&mut self, order_id: Uuid) -> Option<Option<Uuid>> {
        let Some(reservation) = self.reservations.get_mut(&order_id) else {
            let tombstone = Reservation {
                reservation_id: derive_id(order_id, "reservation"),
                state: ReservationState::Released,
                lines: Vec::new(),
                version: 0,
                changed: true,
            };
            self.reservations.insert(order_id, tombstone);
            return Some(None);
        };
        let before = reservation.state;
        match before {
            ReservationState::Released | ReservationState::Committed => return None,
            ReservationState::Held | ReservationState::Rejected => {}
        }
        reservation.state = ReservationState::Released;
        reservation.changed = true;
        if before == ReservationState::Rejected {
            return Some(None);
        }
        let (id, lines) = (reservation.reservation_id, reservation.lines.clone());
        for line in lines {
            self.change(&line.sku, |article| article.reserved -= i64::from(line.quantity));
        }
        Some(Some(id))
    }

    /// Turns held pieces into sold ones; the answer is what was sold, or none if that was said before.
    pub fn commit(&mut self, order_id: Uuid) -> Result<Option<Vec<Line>>, Fault> {
        // A parcel is only sent for a paid order, and only a held order is paid: anything else is a fault.
        let unheld = || Fault::new("a parcel left the house without a reservation");
        let reservation = self.reservations.get_mut(&order_id).ok_or_else(unheld)?;
        match reservation.state {
            ReservationState::Committed => return Ok(None),
            ReservationState::Released | ReservationState::Rejected => return Err(unheld()),
            ReservationState::Held => {}
        }
        reservation.state = ReservationState::Committed;
        reservation.changed = true;
        let lines = reservation.lines.clone();
        for Line { sku, quantity, .. } in &lines {
            let quantity = i64::from(*quantity);
            self.change(sku, |article| {
                article.reserved -= quantity;
                article.on_hand -= quantity;
            });
            let movement = Movement {
                sku: sku.clone(),
                delta: -quantity,
                reason: "SALE".into(),
                order_id: Some(order_id),
            };
            self.movements.push(movement);
        }
        Ok(Some(lines))
    }

    /// Adds or removes pieces by hand; refuses to remove what is held.
    pub fn adjust(&mut self, sku: &str, delta: i64, reason: &str) -> Result<&Article, Refusal> {
        let article = self.articles.get(sku).ok_or(Refusal::UnknownSku)?;
        let available = article.available();
        if available.checked_add(delta).is_none_or(|left| left < 0) {
            return Err(Refusal::TooFew { available });
        }
        self.change(sku, |article| article.on_hand += delta);
        self.movements.push(Movement {
            sku: sku.into(),
            delta,
            reason: reason.into(),
            order_id: None,
        });
        self.articles.get(sku).ok_or(Refusal::UnknownSku)
    }

    /// Lists a product or changes its description; `permitted` decides on the present version.
    pub fn describe(
        &mut self,
        product: Product,
        permitted: impl Fn(Option<i64>) -> bool,
    ) -> Result<Described<'_>, Refusal> {
        let known = self.articles.get(&product.sku);
        if !permitted(known.map(|article| article.version)) {
            return Err(Refusal::ChangedMeanwhile);
        }
        let sku = product.sku.clone();
        let news = match known {
            Some(article) if article.product == product => News::Nothing,
            Some(_) => News::Changed,
            None => News::Listed,
        };
        let article = self
            .articles
            .entry(sku)
            .or_insert_with(|| Article::new(product.clone()));
        if news != News::Nothing {
            article.product = product;
            article.version += 1;
            article.changed = true;
        }
        Ok(Described { article, news })
    }

    /// What is missing, summed up by article: the same article may stand in several lines.
    fn shortages(&self, lines: &[Line]) -> Vec<Shortage> {
        let mut wanted: BTreeMap<&str, i64> = BTreeMap::new();
        for line in lines {
            *wanted.entry(&line.sku).or_default() += i64::from(line.quantity);
        }
        let available = |sku: &str| self.articles.get(sku).map_or(0, Article::available);
        wanted
            .into_iter()
            .filter(|(sku, requested)| *requested > available(sku))
            .map(|(sku, requested)| Shortage {
                sku: sku.to_owned(),
                requested: i32::try_from(requested).unwrap_or(i32::MAX),
                available: available(sku),
            })
            .collect()
    }

    fn change(&mut self, sku: &str, change: impl FnOnce(&mut Article)) {
        if let Some(article) = self.articles.get_mut(sku) {
            change(article);
            article.changed = true;
        }
    }
}

/// Why a wish about stock or a product is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such article.
    UnknownSku,
    /// The pieces are not there, or are held for orders.
    TooFew {
        /// What could be removed at most.
        available: i64,
    },
    /// The description is not the one that the client saw.
    ChangedMeanwhile,
}

/// A description as it is now.
#[derive(Debug)]
pub struct Described<'a> {
    /// The article.
    pub article: &'a mut Article,
    /// What is to be told.
    pub news: News,
}

/// What a description changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It was like that.
    Nothing,
    /// The article is new.
    Listed,
    /// Name, price or currency changed.
    Changed,
}

impl Article {
    fn new(product: Product) -> Self {
        Self {
            product,
            on_hand: 0,
            reserved: 0,
            version: 0,
            revision: 0,
            saved_revision: 0,
            available_before: None,
            changed: true,
        }
    }

    /// The event for a new article.
    pub fn listed(&mut self) -> ProductListed {
        self.revision += 1;
        let Product {
            sku,
            name,
            price,
            currency,
        } = self.product.clone();
        ProductListed {
            sku,
            name,
            price,
            currency,
            available: self.available(),
            revision: self.revision,
        }
    }

    /// The event for a changed description.
    pub fn price_changed(&mut self) -> ProductPriceChanged {
        self.revision += 1;
        let Product {
            sku,
            name,
            price,
            currency,
        } = self.product.clone();
        ProductPriceChanged {
            sku,
            name,
            price,
            currency,
            available: self.available(),
            revision: self.revision,
        }
    }

    /// The event for a changed level, or none when it is what it was when the batch began.
    pub(crate) fn level_changed(&mut self) -> Option<Draft> {
        let before = self.available_before?;
        if before == self.available() {
            return None;
        }
        self.revision += 1;
        let Product {
            sku,
            name,
            price,
            currency,
        } = self.product.clone();
        let event = StockLevelChanged {
            sku,
            name,
            price,
            currency,
            available: self.available(),
            revision: self.revision,
        };
        Draft::of(&event).ok()
    }
}

#[cfg(test)]
mod tests {
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
}
