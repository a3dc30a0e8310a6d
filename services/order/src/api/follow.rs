//! Who follows which order: one look at the database serves all who follow, however many commits there are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chassis::ApiError;
use messaging::Db;
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store;

/// How many may follow at a time: half of the connections that there are.
const FOLLOWERS: usize = 512;
/// How soon a commit of another replica is noticed; those of this process wake the look at once.
const POLL: Duration = Duration::from_secs(1);
/// How long a query may take: nobody waits for a link that has died in silence.
pub(super) const WITHIN: Duration = Duration::from_secs(3);
/// The least time between two looks.
const REST: Duration = Duration::from_millis(50);

/// Where news of an order are told, by its id.
type News = HashMap<Uuid, watch::Sender<i64>>;

/// The orders that somebody follows; none once the service ends. Clones share them.
#[derive(Debug, Clone)]
pub struct Followed {
    orders: Arc<Mutex<Option<News>>>,
    room: Arc<Semaphore>,
}

/// Somebody follows an order until this is dropped.
#[derive(Debug)]
pub(super) struct Following {
    /// The newest version that is known; an error once the service ends.
    pub(super) news: watch::Receiver<i64>,
    _place: OwnedSemaphorePermit,
}

impl Default for Followed {
    fn default() -> Self {
        Self {
            orders: Arc::new(Mutex::new(Some(HashMap::new()))),
            room: Arc::new(Semaphore::new(FOLLOWERS)),
        }
    }
}

impl Followed {
    /// Whatever changes from now on is news.
    pub(super) fn follow(&self, id: Uuid) -> Result<Following, ApiError> {
        let place = Arc::clone(&self.room).try_acquire_owned();
        let place = place.map_err(|_| ApiError::overloaded("too many follow their orders already, try again"))?;
        let mut orders = self.orders();
        let ending = || ApiError::unavailable("the service is ending, try again");
        let news = orders.as_mut().ok_or_else(ending)?.entry(id);
        Ok(Following {
            news: news.or_insert_with(|| watch::Sender::new(0)).subscribe(),
            _place: place,
        })
    }

    /// How many follow at the moment.
    pub fn count(&self) -> usize {
        FOLLOWERS - self.room.available_permits()
    }

    /// Tells followers what is new until shutdown, and then that it is over.
    pub async fn tell(self, db: Db, shutdown: CancellationToken) {
        let mut commits = db.commits();
        let telling = async {
            loop {
                tokio::select! {
                    _ = commits.changed() => {}
                    () = sleep(POLL) => {}
                }
                let looked = timeout(WITHIN, self.look(db.pool())).await;
                if let Err(error) = looked.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
                    tracing::warn!(%error, "cannot look for news of the orders that are followed");
                }
                sleep(REST).await;
            }
        };
        shutdown.run_until_cancelled(telling).await;
        *self.orders() = None;
    }

    /// One query for all orders that are followed, none when there are none.
    async fn look(&self, pool: &PgPool) -> sqlx::Result<()> {
        let ids: Vec<Uuid> = {
            let mut orders = self.orders();
            let Some(orders) = orders.as_mut() else { return Ok(()) };
            orders.retain(|_, news| news.receiver_count() > 0);
            orders.keys().copied().collect()
        };
        if ids.is_empty() {
            return Ok(());
        }
        let versions = store::versions(pool, &ids).await?;
        let orders = self.orders();
        for (id, version) in versions {
            if let Some(news) = orders.as_ref().and_then(|orders| orders.get(&id)) {
                news.send_if_modified(|known| version > std::mem::replace(known, version));
            }
        }
        Ok(())
    }

    fn orders(&self) -> MutexGuard<'_, Option<News>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
