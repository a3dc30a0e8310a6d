//! The rules of stock: what is held is never sold twice, and never more than there is.

mod restock;

use std::collections::BTreeMap;

use events::{Draft, Fault, Line, ProductListed, ProductPriceChanged, Shortage, StockLevelChanged, derive_id};
use uuid::Uuid;

pub use restock::Restock;

/// The articles and reservations that a batch touches.
#[derive(Debug, Default)]
pub struct Stock {
    /// Articles by sku.
    pub articles: BTreeMap<String, Article>,
    /// Reservations by order.
    pub reservations: BTreeMap<Uuid, Reservation>,
    /// What came back, by return.
    pub restocks: BTreeMap<Uuid, Restock>,
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
    /// Why, `SALE`, `RETURN` or the operator's words.
    pub reason: String,
    /// The order that was shipped, or came back.
    pub order_id: Option<Uuid>,
    /// The return that it came back with.
    pub return_id: Option<Uuid>,
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
                return_id: None,
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
            return_id: None,
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
mod tests;
