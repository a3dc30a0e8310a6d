//! Two ways to hear a story: without a database, and with one.

use std::collections::BTreeMap;

use analytics::domain::{Facts, Product, Projections, Tally, Tracked};
use messaging::{Journal, Touched, Trouble, WorkingSet};
use sqlx::PgPool;
use uuid::Uuid;

use super::Told;

/// The tables, without a database.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Memory {
    pub(crate) orders: BTreeMap<Uuid, Facts>,
    pub(crate) products: BTreeMap<String, Product>,
    pub(crate) tally: Tally,
}

impl Memory {
    /// Hears one batch, as the service does.
    pub(crate) fn hear(&mut self, batch: &[Told]) {
        let mut projections = Projections::default();
        for (order_id, facts) in &self.orders {
            let tracked = Tracked {
                before: facts.clone(),
                now: facts.clone(),
                version: 1,
            };
            projections.orders.insert(*order_id, tracked);
        }
        react(&mut projections, batch);
        self.tally.add(projections.difference(), 1);
        for (sku, product) in projections.products {
            let known = self.products.get(&sku).map_or(i64::MIN, |known| known.sequence);
            if known < product.sequence {
                self.products.insert(sku, product);
            }
        }
        self.orders.extend(
            projections
                .orders
                .into_iter()
                .map(|(order_id, order)| (order_id, order.now)),
        );
    }
}

fn react(projections: &mut Projections, batch: &[Told]) {
    let reactions = analytics::reactions::reactions();
    for Told { envelope, payload, .. } in batch {
        let followed = reactions.react(projections, envelope, payload).unwrap();
        assert!(followed.is_empty(), "analytics says nothing");
    }
}

/// Hears one batch in one transaction, as often as races are lost.
pub(crate) async fn hear(pool: &PgPool, batch: &[Told]) {
    while let Err(error) = hear_once(pool, batch).await {
        let trouble = Trouble::from(error);
        assert!(matches!(trouble, Trouble::Conflict(_)), "{trouble}");
    }
}

async fn hear_once(pool: &PgPool, batch: &[Told]) -> sqlx::Result<()> {
    let mut touched = Touched::default();
    for told in batch {
        touched.orders.extend(&told.touched.orders);
        touched.keys.extend(told.touched.keys.iter().cloned());
    }
    let mut tx = messaging::Db::new(pool.clone()).begin().await?;
    let mut projections = Projections::load(&mut tx, &touched).await?;
    react(&mut projections, batch);
    let heard = batch.iter().map(|told| told.envelope.clone()).collect();
    projections
        .save(
            &mut tx,
            &Journal {
                heard,
                told: Vec::new(),
            },
        )
        .await?;
    tx.commit().await
}
