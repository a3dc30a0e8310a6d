//! Holds a private cluster and broker until its input ends: `cargo run -p testbed` and Ctrl-D.

use testbed::{Nats, Place, Postgres};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (postgres, nats) = tokio::try_join!(Postgres::start(Place::temporary()), Nats::start(Place::temporary()))?;
    println!("DATABASE_URL={}", postgres.socket_url("postgres"));
    println!("NATS_URL={}", nats.url());
    println!("folders: {} {}", postgres.folder().display(), nats.folder().display());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
