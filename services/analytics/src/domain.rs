//! The rules of the projections: an order's row holds what was heard of it, and every sum is the sum
//! of what the rows contribute.
//!
//! Remembering a fact is commutative and idempotent, and a sum changes by the difference between what
//! a row contributed before and what it contributes now. Hence neither the order of events nor their
//! repetition nor their distribution over batches can be seen in any projection.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use events::{CancelReason, Line};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a batch touches.
#[derive(Debug, Default)]
pub struct Projections {
    /// Orders by id.
    pub orders: BTreeMap<Uuid, Tracked>,
    /// Products that this batch described, by sku.
    pub products: BTreeMap<String, Product>,
}

/// An order before and after the batch.
#[derive(Debug, Clone, Default)]
pub struct Tracked {
    /// What its row holds.
    pub before: Facts,
    /// What it will hold.
    pub now: Facts,
    /// Counts its changes; 0 before it was first saved.
    pub version: i64,
}

/// What was heard of an order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// What was ordered.
    pub lines: Option<Vec<Line>>,
    /// Sum of the lines in minor units.
    pub total: Option<i64>,
    /// Currency of every amount.
    pub currency: Option<String>,
    /// Why it was cancelled.
    pub reason: Option<CancelReason>,
    /// What was paid back, in minor units, by refund.
    pub refunds: BTreeMap<Uuid, i64>,
    /// Whether a message was sent, by template.
    pub notified: BTreeMap<String, bool>,
    /// When it came how far.
    #[serde(flatten)]
    pub steps: BTreeMap<Step, DateTime<Utc>>,
}

/// Declares the steps of an order, each with its column.
macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident in $column:literal,)*) => {
        /// How far an order came.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Step {
            $($(#[$doc])* #[serde(rename = $column)] $step,)*
        }

        impl Step {
            /// Every step.
            pub const ALL: &[Self] = &[$(Self::$step,)*];

            /// The word for it in counters and answers.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$step => $column.trim_end_matches("_at"),)*
                }
            }
        }
    };
}

steps! {
    /// It was accepted.
    Placed in "placed_at",
    /// Its articles are held.
    Reserved in "reserved_at",
    /// There was too little.
    Rejected in "rejected_at",
    /// The money was taken.
    Paid in "paid_at",
    /// The gateway said no.
    Declined in "declined_at",
    /// The gateway gave no answer in time.
    TimedOut in "timed_out_at",
    /// It may be shipped.
    Confirmed in "confirmed_at",
    /// The parcel is going to be packed.
    Scheduled in "scheduled_at",
    /// The parcel left the house.
    Shipped in "shipped_at",
    /// Its articles are sold.
    Committed in "committed_at",
    /// The parcel arrived.
    Delivered in "delivered_at",
    /// It is done.
    Completed in "completed_at",
    /// The carrier cannot deliver it.
    ShipmentFailed in "shipment_failed_at",
    /// The parcel will not be sent.
    ShipmentCancelled in "shipment_cancelled_at",
    /// The payment was called off.
    Voided in "voided_at",
    /// Money was paid back.
    PaidBack in "paid_back_at",
    /// Its articles are free again.
    Released in "released_at",
    /// It is undone.
    Cancelled in "cancelled_at",
    /// Returned articles can be sold again.
    Restocked in "restocked_at",
    /// A return was paid back.
    Returned in "returned_at",
}

/// A product as it was last described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// What it is called.
    pub name: String,
    /// Price of one piece in minor units.
    pub price: i64,
    /// Currency of the price.
    pub currency: String,
    /// Pieces that can be ordered.
    pub available: i64,
    /// Place of the description among all of this product; the greatest is the newest.
    pub sequence: i64,
}

/// What orders contribute to the projections, or by how much that changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Orders by step and detail: the reason of a cancellation, the template of a message, or nothing.
    pub counts: BTreeMap<(&'static str, String), i64>,
    /// Completed orders by dimension, key and currency.
    pub sales: BTreeMap<(Dimension, String, String), Sales>,
}

/// Along what completed orders are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    /// All of them; the key is empty.
    Total,
    /// By minute of completion; the key is `2026-11-21T10:05:00Z`.
    Minute,
    /// By sku, before refunds: a refund does not say what it is for.
    Product,
}

impl Dimension {
    /// The word for it in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Minute => "minute",
            Self::Product => "product",
        }
    }
}

/// How much was sold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sales {
    /// How many orders.
    pub orders: i64,
    /// How many pieces.
    pub units: i64,
    /// For how much, less what was paid back, in minor units.
    pub revenue: i64,
    /// What was paid back, in minor units; by product it is not known.
    pub refunded: i64,
}

impl Projections {
    /// The facts of an order, to add to.
    pub fn order(&mut self, order_id: Uuid) -> &mut Facts {
        &mut self.orders.entry(order_id).or_default().now
    }

    /// Knows of an order what the other does, and forgets what it knew; the sums follow.
    pub fn take_over(&mut self, other: &Self, order_id: Uuid) {
        let facts = other.orders.get(&order_id).map(|order| order.now.clone());
        *self.order(order_id) = facts.unwrap_or_default();
    }

    /// Keeps the newest description of a product.
    pub fn describe(&mut self, sku: &str, product: Product) {
        let known = self.products.get(sku).map_or(i64::MIN, |known| known.sequence);
        if known < product.sequence {
            self.products.insert(sku.to_owned(), product);
        }
    }

    /// The orders of which something new was heard.
    pub fn changed(&self) -> impl Iterator<Item = (&Uuid, &Tracked)> {
        self.orders.iter().filter(|(_, order)| order.before != order.now)
    }

    /// By how much this batch changes the sums.
    pub fn difference(&self) -> Tally {
        let mut tally = Tally::default();
        for (_, order) in self.changed() {
            tally.add(order.now.contribution(), 1);
            tally.add(order.before.contribution(), -1);
        }
        tally
    }
}

impl Facts {
    /// A step told twice happened when it was told first.
    pub fn reach(&mut self, step: Step, at: DateTime<Utc>) {
        let known = self.steps.entry(step).or_insert(at);
        *known = at.min(*known);
    }

    /// What this order adds to the projections.
    pub fn contribution(&self) -> Tally {
        let mut tally = Tally::default();
        for step in self.steps.keys() {
            let reason = self.reason.filter(|_| *step == Step::Cancelled);
            tally
                .counts
                .insert((step.name(), reason.map(word).unwrap_or_default()), 1);
        }
        for (template, sent) in &self.notified {
            let told = if *sent { "notified" } else { "not_notified" };
            tally.counts.insert((told, template.clone()), 1);
        }
        self.sell(&mut tally);
        tally
    }

    /// An order is sold once it is known what it was and that it is completed.
    fn sell(&self, tally: &mut Tally) {
        let known = (
            self.steps.get(&Step::Completed),
            &self.lines,
            self.total,
            &self.currency,
        );
        let (Some(completed_at), Some(lines), Some(total), Some(currency)) = known else {
            return;
        };
        let refunded: i64 = self.refunds.values().sum();
        let sales = Sales {
            orders: 1,
            units: lines.iter().map(|line| i64::from(line.quantity)).sum(),
            revenue: total - refunded,
            refunded,
        };
        let mut sell = |dimension, key: String, sales: Sales| {
            tally
                .sales
                .entry((dimension, key, currency.clone()))
                .or_default()
                .add(sales, 1);
        };
        sell(Dimension::Total, String::new(), sales);
        sell(
            Dimension::Minute,
            completed_at.format("%Y-%m-%dT%H:%M:00Z").to_string(),
            sales,
        );
        for (sku, sales) in by_product(lines) {
            sell(Dimension::Product, sku.to_owned(), sales);
        }
    }
}

/// An article may stand in several lines; the order counts once.
fn by_product(lines: &[Line]) -> BTreeMap<&str, Sales> {
    let mut products: BTreeMap<&str, Sales> = BTreeMap::new();
    for line in lines {
        let (units, sales) = (i64::from(line.quantity), products.entry(&line.sku).or_default());
        sales.orders = 1;
        sales.units += units;
        sales.revenue += units * line.unit_price;
    }
    products
}

/// The reason as events spell it.
pub fn word(reason: CancelReason) -> String {
    let spelt = serde_json::to_value(reason).ok();
    spelt
        .and_then(|word| word.as_str().map(str::to_owned))
        .unwrap_or_default()
}

impl Tally {
    /// Adds the other so many times; what comes to nothing is left out.
    pub fn add(&mut self, other: Self, times: i64) {
        for (key, count) in other.counts {
            *self.counts.entry(key).or_default() += times * count;
        }
        for (key, sales) in other.sales {
            self.sales.entry(key).or_default().add(sales, times);
        }
        self.counts.retain(|_, count| *count != 0);
        self.sales.retain(|_, sales| *sales != Sales::default());
    }
}

impl Sales {
    fn add(&mut self, other: Self, times: i64) {
        self.orders += times * other.orders;
        self.units += times * other.units;
        self.revenue += times * other.revenue;
        self.refunded += times * other.refunded;
    }
}
