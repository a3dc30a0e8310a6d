//! What the service of the tests knows, and how it misbehaves on demand.

use std::collections::BTreeMap;

use events::{Fault, InventoryReleased, PaymentDeclined};
use messaging::{Journal, Reactions, Touched, Tx, WorkingSet, all_saved};
use uuid::Uuid;

/// Counts by order.
#[derive(Default)]
pub(crate) struct Ledger {
    pages: BTreeMap<Uuid, Page>,
    labels: Vec<String>,
    /// Errands to be written down.
    pub(crate) parcels: Vec<Uuid>,
}

#[derive(Default)]
struct Page {
    seen: i32,
    version: i64,
}

pub(crate) fn reactions() -> Reactions<Ledger> {
    Reactions::of("inventory").on::<PaymentDeclined>(count)
}

/// The same service after a repair: only one thing is still wrong with it.
pub(crate) fn repaired() -> Reactions<Ledger> {
    Reactions::of("inventory").on::<PaymentDeclined>(count_nearly_all)
}

fn count_nearly_all(ledger: &mut Ledger, event: &PaymentDeclined) -> Result<InventoryReleased, Fault> {
    match event.code.as_str() {
        "hopeless" => Err(Fault::new("it is hopeless")),
        _ => Ok(see(ledger, event.order_id)),
    }
}

/// Counts the event, unless its code says what should go wrong.
fn count(ledger: &mut Ledger, event: &PaymentDeclined) -> Result<InventoryReleased, Fault> {
    match event.code.as_str() {
        "faulty" => return Err(Fault::new("it is faulty\0")),
        "hopeless" => return Err(Fault::new("it is hopeless")),
        "panics" => panic!("it panics"),
        "overdrawn" => ledger.overdraw(event.order_id),
        "taken" => ledger.label("taken"),
        _ => {}
    }
    Ok(see(ledger, event.order_id))
}

impl Ledger {
    /// Breaks a check of the database.
    pub(crate) fn overdraw(&mut self, order_id: Uuid) {
        self.pages.entry(order_id).or_default().seen = -2;
    }

    /// Writes a label, which must not exist.
    pub(crate) fn label(&mut self, label: &str) {
        self.labels.push(label.to_owned());
    }
}

/// Counts the order once more.
pub(crate) fn see(ledger: &mut Ledger, order_id: Uuid) -> InventoryReleased {
    ledger.pages.entry(order_id).or_default().seen += 1;
    InventoryReleased {
        order_id,
        reservation_id: None,
        cause: "seen".into(),
    }
}

impl WorkingSet for Ledger {
    async fn load(tx: &mut Tx, touched: &Touched) -> sqlx::Result<Self> {
        let rows: Vec<(Uuid, i32, i64)> = sqlx::query_as(
            "select order_id, seen, version from ledger where order_id = any($1) order by order_id for update",
        )
        .bind(touched.order_ids())
        .fetch_all(&mut **tx)
        .await?;
        let page = |(order_id, seen, version)| (order_id, Page { seen, version });
        Ok(Self {
            pages: rows.into_iter().map(page).collect(),
            ..Self::default()
        })
    }

    async fn save(self, tx: &mut Tx, _journal: &Journal) -> sqlx::Result<()> {
        sqlx::query("insert into units default values")
            .execute(&mut **tx)
            .await?;
        sqlx::query("insert into parcels (id) select unnest($1::uuid[])")
            .bind(&self.parcels)
            .execute(&mut **tx)
            .await?;
        sqlx::query("insert into labels select unnest($1::text[])")
            .bind(&self.labels)
            .execute(&mut **tx)
            .await?;
        let saved = sqlx::query(
            "insert into ledger as known (order_id, seen, version)
             select order_id, seen, version + 1 from unnest($1::uuid[], $2::int[], $3::bigint[])
                 as t (order_id, seen, version)
             on conflict (order_id) do update set seen = excluded.seen, version = excluded.version
             where known.version = excluded.version - 1",
        )
        .bind(self.pages.keys().copied().collect::<Vec<_>>())
        .bind(self.pages.values().map(|page| page.seen).collect::<Vec<_>>())
        .bind(self.pages.values().map(|page| page.version).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
        all_saved(saved.rows_affected(), self.pages.len())
    }
}
