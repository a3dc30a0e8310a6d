//! The only SQL of the inventory service: a batch's working set, and the queries of the API.

use events::{Draft, Line};
use messaging::{Journal, Touched, Tx, WorkingSet, all_saved};
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use crate::domain::{Article, Product, Reservation, ReservationState, Restock, Stock};

impl WorkingSet for Stock {
    /// Locks the reservations in order of their ids, then the articles in order of their skus.
    async fn load(tx: &mut Tx, touched: &Touched) -> sqlx::Result<Self> {
        let mut stock = Self::default();
        let reservations = sqlx::query!(
            r#"
            select order_id, reservation_id, state, lines as "lines: Json<Vec<Line>>", version
            from reservations where order_id = any($1) order by order_id for update
            "#,
            &touched.order_ids(),
        );
        let mut skus = touched.keys.clone();
        for row in reservations.fetch_all(&mut **tx).await? {
            skus.extend(row.lines.iter().map(|line| line.sku.clone()));
            let reservation = Reservation {
                reservation_id: row.reservation_id,
                state: ReservationState::from_sql(&row.state),
                lines: row.lines.0,
                version: row.version,
                changed: false,
            };
            stock.reservations.insert(row.order_id, reservation);
        }
        let restocks = sqlx::query!(
            r#"select return_id, order_id, lines as "lines: Json<Vec<Line>>" from restocks where order_id = any($1)"#,
            &touched.order_ids(),
        );
        for row in restocks.fetch_all(&mut **tx).await? {
            let restock = Restock {
                order_id: row.order_id,
                lines: row.lines.0,
                new: false,
            };
            stock.restocks.insert(row.return_id, restock);
        }
        let skus: Vec<String> = skus.into_iter().collect();
        for row in sqlx::query_as!(
            ProductRow,
            "select * from products where sku = any($1) order by sku for update",
            &skus
        )
        .fetch_all(&mut **tx)
        .await?
        {
            stock.articles.insert(row.sku.clone(), row.into_article());
        }
        Ok(stock)
    }

    async fn save(self, tx: &mut Tx, _journal: &Journal) -> sqlx::Result<()> {
        save_articles(tx, self.articles.values().filter(|article| article.changed)).await?;
        save_reservations(
            tx,
            self.reservations.iter().filter(|(_, reservation)| reservation.changed),
        )
        .await?;
        save_restocks(tx, &self).await?;
        save_movements(tx, &self).await
    }

    /// One level a batch for each article, however many orders changed it.
    fn summary(&mut self) -> Vec<Draft> {
        self.articles.values_mut().filter_map(Article::level_changed).collect()
    }
}

impl ReservationState {
    /// The word for it in tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "HELD",
            Self::Rejected => "REJECTED",
            Self::Released => "RELEASED",
            Self::Committed => "COMMITTED",
        }
    }

    /// The column is checked, so every word is one of ours.
    fn from_sql(word: &str) -> Self {
        match word {
            "HELD" => Self::Held,
            "REJECTED" => Self::Rejected,
            "COMMITTED" => Self::Committed,
            _ => Self::Released,
        }
    }
}

async fn save_articles(tx: &mut Tx, changed: impl Iterator<Item = &Article>) -> sqlx::Result<()> {
    let changed: Vec<&Article> = changed.collect();
    if changed.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&Article) -> i64| changed.iter().map(|article| of(article)).collect::<Vec<i64>>();
    let text = |of: fn(&Product) -> &String| {
        changed
            .iter()
            .map(|article| of(&article.product).clone())
            .collect::<Vec<_>>()
    };
    let saved = sqlx::query!(
        r#"
        insert into products as known (sku, name, price, currency, on_hand, reserved, version, revision)
        select sku, name, price, currency, on_hand, reserved, version, revision
        from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
                    $8::bigint[]) as t (sku, name, price, currency, on_hand, reserved, version, revision)
        on conflict (sku) do update
        set name = excluded.name, price = excluded.price, currency = excluded.currency, on_hand = excluded.on_hand,
            reserved = excluded.reserved, version = excluded.version, revision = excluded.revision
        where known.revision = (select saved from unnest($1::text[], $9::bigint[]) as t (sku, saved)
                                where t.sku = excluded.sku)
        "#,
        &text(|product| &product.sku),
        &text(|product| &product.name),
        &column(|article| article.product.price),
        &text(|product| &product.currency),
        &column(|article| article.on_hand),
        &column(|article| article.reserved),
        &column(|article| article.version),
        &column(|article| article.revision.max(article.saved_revision + 1)),
        &column(|article| article.saved_revision),
    )
    .execute(&mut **tx)
    .await?;
    all_saved(saved.rows_affected(), changed.len())
}

async fn save_reservations(tx: &mut Tx, changed: impl Iterator<Item = (&Uuid, &Reservation)>) -> sqlx::Result<()> {
    let changed: Vec<(&Uuid, &Reservation)> = changed.collect();
    if changed.is_empty() {
        return Ok(());
    }
    let lines: Vec<Json<&[Line]>> = changed
        .iter()
        .map(|(_, reservation)| Json(reservation.lines.as_slice()))
        .collect();
    let saved = sqlx::query!(
        r#"
        insert into reservations as known (order_id, reservation_id, state, lines, version)
        select order_id, reservation_id, state, lines, version + 1
        from unnest($1::uuid[], $2::uuid[], $3::text[], $4::jsonb[], $5::bigint[])
            as t (order_id, reservation_id, state, lines, version)
        on conflict (order_id) do update set state = excluded.state, version = excluded.version
        where known.version = excluded.version - 1
        "#,
        &changed.iter().map(|(order_id, _)| **order_id).collect::<Vec<_>>(),
        &changed
            .iter()
            .map(|(_, reservation)| reservation.reservation_id)
            .collect::<Vec<_>>(),
        &changed
            .iter()
            .map(|(_, reservation)| reservation.state.as_str().to_owned())
            .collect::<Vec<_>>(),
        &lines as &[Json<&[Line]>],
        &changed
            .iter()
            .map(|(_, reservation)| reservation.version)
            .collect::<Vec<_>>(),
    )
    .execute(&mut **tx)
    .await?;
    all_saved(saved.rows_affected(), changed.len())
}

/// Only ever inserted: whoever restocks the same return at the same time loses the race and decides again.
async fn save_restocks(tx: &mut Tx, stock: &Stock) -> sqlx::Result<()> {
    let new: Vec<(&Uuid, &Restock)> = stock.restocks.iter().filter(|(_, restock)| restock.new).collect();
    if new.is_empty() {
        return Ok(());
    }
    let lines: Vec<Json<&[Line]>> = new.iter().map(|(_, restock)| Json(restock.lines.as_slice())).collect();
    sqlx::query!(
        "insert into restocks (return_id, order_id, lines) select * from unnest($1::uuid[], $2::uuid[], $3::jsonb[])",
        &new.iter().map(|(return_id, _)| **return_id).collect::<Vec<_>>(),
        &new.iter().map(|(_, restock)| restock.order_id).collect::<Vec<_>>(),
        &lines as &[Json<&[Line]>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn save_movements(tx: &mut Tx, stock: &Stock) -> sqlx::Result<()> {
    let movements = &stock.movements;
    if movements.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into stock_movements (sku, delta, reason, order_id, return_id)
        select * from unnest($1::text[], $2::bigint[], $3::text[], $4::uuid[], $5::uuid[])
        "#,
        &movements
            .iter()
            .map(|movement| movement.sku.clone())
            .collect::<Vec<_>>(),
        &movements.iter().map(|movement| movement.delta).collect::<Vec<_>>(),
        &movements
            .iter()
            .map(|movement| movement.reason.clone())
            .collect::<Vec<_>>(),
        &movements.iter().map(|movement| movement.order_id).collect::<Vec<_>>() as &[Option<Uuid>],
        &movements.iter().map(|movement| movement.return_id).collect::<Vec<_>>() as &[Option<Uuid>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

struct ProductRow {
    sku: String,
    name: String,
    price: i64,
    currency: String,
    on_hand: i64,
    reserved: i64,
    version: i64,
    revision: i64,
}

impl ProductRow {
    fn into_article(self) -> Article {
        let Self {
            sku,
            name,
            price,
            currency,
            on_hand,
            reserved,
            version,
            revision,
        } = self;
        Article {
            product: Product {
                sku,
                name,
                price,
                currency,
            },
            on_hand,
            reserved,
            version,
            revision,
            saved_revision: revision,
            available_before: Some(on_hand - reserved),
            changed: false,
        }
    }
}

/// The articles of these skus, for a stock check; those that do not exist are left out.
pub async fn articles(pool: &PgPool, skus: &[String]) -> sqlx::Result<Vec<Article>> {
    let rows = sqlx::query_as!(ProductRow, "select * from products where sku = any($1)", skus)
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(ProductRow::into_article).collect())
}

/// A page of the catalogue, by sku, after the cursor.
pub async fn catalogue(pool: &PgPool, after: Option<&str>, limit: i64) -> sqlx::Result<Vec<Article>> {
    let rows = sqlx::query_as!(
        ProductRow,
        "select * from products where sku > coalesce($1, '') order by sku limit $2",
        after,
        limit,
    );
    Ok(rows
        .fetch_all(pool)
        .await?
        .into_iter()
        .map(ProductRow::into_article)
        .collect())
}

/// What is held for an order.
pub async fn reservation(pool: &PgPool, order_id: Uuid) -> sqlx::Result<Option<Reservation>> {
    let row = sqlx::query!(
        r#"
        select reservation_id, state, lines as "lines: Json<Vec<Line>>", version
        from reservations where order_id = $1
        "#,
        order_id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Reservation {
        reservation_id: row.reservation_id,
        state: ReservationState::from_sql(&row.state),
        lines: row.lines.0,
        version: row.version,
        changed: false,
    }))
}
