//! The only SQL of the newcomer service: a batch's working set, and the queries of the API.

use messaging::{Journal, Touched, Tx, WorkingSet, all_saved};
use sqlx::PgPool;

use crate::domain::{Account, Newcomer};

impl WorkingSet for Newcomer {
    /// Locks the accounts in order of their subjects.
    async fn load(tx: &mut Tx, touched: &Touched) -> sqlx::Result<Self> {
        let orders = touched.orders.iter().map(ToString::to_string);
        let subjects: Vec<String> = orders.chain(touched.keys.iter().cloned()).collect();
        let rows = sqlx::query!(
            "select subject, points, version from accounts where subject = any($1) order by subject for update",
            &subjects,
        )
        .fetch_all(&mut **tx)
        .await?;
        let accounts = rows.into_iter().map(|row| {
            let account = Account {
                points: row.points,
                version: row.version,
                changed: false,
            };
            (row.subject, account)
        });
        Ok(Self {
            accounts: accounts.collect(),
        })
    }

    /// One statement; whoever opened the same account meanwhile makes this one run again.
    async fn save(self, tx: &mut Tx, _journal: &Journal) -> sqlx::Result<()> {
        let (mut subjects, mut points, mut versions) = (Vec::new(), Vec::new(), Vec::new());
        for (subject, account) in self.accounts.into_iter().filter(|(_, account)| account.changed) {
            subjects.push(subject);
            points.push(account.points);
            versions.push(account.version);
        }
        if subjects.is_empty() {
            return Ok(());
        }
        let saved = sqlx::query!(
            r#"
            insert into accounts as known (subject, points, version)
            select subject, points, version + 1
            from unnest($1::text[], $2::bigint[], $3::bigint[]) as t (subject, points, version)
            on conflict (subject) do update set points = excluded.points, version = excluded.version
            where known.version = excluded.version - 1
            "#,
            &subjects,
            &points,
            &versions,
        )
        .execute(&mut **tx)
        .await?;
        all_saved(saved.rows_affected(), subjects.len())
    }
}

/// What was earned for one subject; none if nothing ever was.
pub async fn points(pool: &PgPool, subject: &str) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!("select points from accounts where subject = $1", subject)
        .fetch_optional(pool)
        .await
}

/// How many accounts there are, and the points on all of them.
pub async fn totals(pool: &PgPool) -> sqlx::Result<(i64, i64)> {
    let row =
        sqlx::query!(r#"select count(*) as "accounts!", coalesce(sum(points), 0)::bigint as "points!" from accounts"#)
            .fetch_one(pool)
            .await?;
    Ok((row.accounts, row.points))
}
